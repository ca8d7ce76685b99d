"""Training samples of the detector: one image, four in a mosaic, or one with the regions of another pasted in.

Mosaic: Bochkovskiy et al. 2020 (YOLOv4). Copy-paste: Ghiasi et al. 2021, with soft edges.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from pipeline.datasets.prepare import CANVAS
from pipeline.training.augment import place, place_outlines, random_placement, random_turn, turn, vary_intensity
from pipeline.training.mask_loss import UNKNOWN
from pipeline.training.prepared import PreparedImage, PreparedSplit

#: How much larger or smaller an image becomes, alone and as a tile of a mosaic.
_ZOOMS, _TILE_ZOOMS = (0.6, 1.5), (0.8, 1.8)
#: A region that loses more than this to one pasted over it is no longer to be found.
_COVERED = 0.6


@dataclass(frozen=True)
class View:
    """One augmented image: uint8 (S, S, 3), boxes float32 (N, 4) xyxy, class_index int64 (N,), regions uint8 (S, S).

    `regions` is a pixel's class index + 1, 0 outside of all regions, and `UNKNOWN` all over where there are only boxes.
    """

    pixels: np.ndarray
    boxes: np.ndarray
    class_index: np.ndarray
    regions: np.ndarray


@dataclass(frozen=True)
class Collage:
    """Draws views from a split.

    Attributes
    ----------
    size : side of a view in pixels
    empty_share : share of images without any region, where a source has them
    mosaic : share of views that are four images
    copy_paste : source -> share of its single images that get another's regions; 0 for those that it does not name
    other_devices : share of images that look as if from another hospital's device
    """

    split: PreparedSplit
    size: int
    empty_share: float
    mosaic: float = 0.0
    copy_paste: dict[str, float] = field(default_factory=dict)
    other_devices: float = 0.0

    def draw(self, rng: np.random.Generator) -> View:
        if rng.random() < self.mosaic:
            return self._four(rng)
        image = self.split.draw(rng, self.empty_share)
        view = self._view(image, self.size, rng)
        givers = self.split.by_source[image.source][0]
        if not len(givers) or rng.random() >= self.copy_paste.get(image.source, 0.0):
            return view
        giver = self.split.images[rng.choice(givers)]
        return view if None in giver.rles else _paste(self._view(giver, self.size, rng), view)

    def _four(self, rng: np.random.Generator) -> View:
        """Four views about a random cross, each as large as the square it fills."""
        size = self.size
        cross_x, cross_y = (int(size * rng.uniform(0.35, 0.65)) for _ in range(2))
        pixels, regions = np.zeros((size, size, 3), np.uint8), np.zeros((size, size), np.uint8)
        boxes, labels = [], []
        for left, right in ((0, cross_x), (cross_x, size)):
            for top, bottom in ((0, cross_y), (cross_y, size)):
                side = max(right - left, bottom - top)
                tile = self._view(self.split.draw(rng, self.empty_share), side, rng, _TILE_ZOOMS)
                wide, high = right - left, bottom - top
                pixels[top:bottom, left:right] = tile.pixels[:high, :wide]
                regions[top:bottom, left:right] = tile.regions[:high, :wide]
                inside = tile.boxes.clip(0, (wide, high, wide, high))
                keep = _areas(inside) >= 0.3 * _areas(tile.boxes)
                keep &= (inside[:, 2:] - inside[:, :2] >= 2).all(axis=1)
                boxes.append(inside[keep] + np.float32([left, top, left, top]))
                labels.append(tile.class_index[keep])
        return View(pixels, np.concatenate(boxes), np.concatenate(labels), regions)

    def _view(
        self, image: PreparedImage, size: int, rng: np.random.Generator, zooms: tuple[float, float] = _ZOOMS
    ) -> View:
        canvas = image.pixels()
        matrix = random_placement(size, len(canvas), rng, scales=zooms)
        matrix = turn(matrix, random_turn(image.modality, rng, self.other_devices), size)
        boxes, keep = place_outlines(image.outlines, matrix, size)
        pixels = vary_intensity(place(canvas, matrix, size), image.modality, rng, self.other_devices)
        return View(pixels, boxes, image.class_index[keep], _place_regions(image, keep, matrix, size))


def _place_regions(image: PreparedImage, keep: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """`View.regions` of those regions of an image that stay visible."""
    if None in image.rles:
        return np.full((size, size), UNKNOWN, np.uint8)
    canvas = np.zeros((CANVAS, CANVAS), np.uint8)
    for number in np.flatnonzero(keep):
        canvas[image.mask(number)] = image.class_index[number] + 1
    return cv2.warpAffine(canvas, matrix, (size, size), flags=cv2.INTER_NEAREST)


def _paste(giver: View, taker: View) -> View:
    """The giver's regions over the taker, with soft edges; the taker's regions that are mostly hidden then go."""
    shown = (giver.regions > 0).astype(np.float32)
    alpha = cv2.GaussianBlur(shown, (0, 0), len(shown) / 200)
    pixels = (giver.pixels * alpha[..., None] + taker.pixels * (1 - alpha[..., None])).round().astype(np.uint8)
    hidden = np.zeros(len(taker.boxes))
    for number, (left, top, right, bottom) in enumerate(taker.boxes.round().astype(int)):
        hidden[number] = alpha[top : bottom + 1, left : right + 1].mean()
    seen = hidden < _COVERED
    return View(
        pixels,
        np.concatenate([taker.boxes[seen], giver.boxes]),
        np.concatenate([taker.class_index[seen], giver.class_index]),
        np.where(giver.regions > 0, giver.regions, taker.regions),
    )


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
