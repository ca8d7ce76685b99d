"""Training samples of the detector: one image, four in a mosaic, or one with the regions of another pasted in.

Mosaic: Bochkovskiy et al. 2020 (YOLOv4). Copy-paste: Ghiasi et al. 2021, with soft edges.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from pipeline.training.augment import place, place_outlines, random_placement, random_turn, turn, vary_intensity
from pipeline.training.prepared import PreparedImage, PreparedSplit

#: How much larger or smaller an image becomes, alone and as a tile of a mosaic.
_ZOOMS, _TILE_ZOOMS = (0.6, 1.5), (0.8, 1.8)
#: A region that loses more than this to one pasted over it is no longer to be found.
_COVERED = 0.6


@dataclass(frozen=True)
class View:
    """One augmented image: uint8 (S, S, 3), boxes float32 (N, 4) xyxy, class_index int64 (N,), mask float32 (S, S).

    `mask` is 1 in the regions with soft edges, and None where nobody asked for it.
    """

    pixels: np.ndarray
    boxes: np.ndarray
    class_index: np.ndarray
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Collage:
    """Draws views from a split.

    Attributes
    ----------
    size : side of a view in pixels
    empty_share : share of images without any region, where a source has them
    mosaic : share of views that are four images
    copy_paste : source -> share of its single images that get another's regions; 0 for those that it does not name
    """

    split: PreparedSplit
    size: int
    empty_share: float
    mosaic: float = 0.0
    copy_paste: dict[str, float] = field(default_factory=dict)

    def draw(self, rng: np.random.Generator) -> View:
        if rng.random() < self.mosaic:
            return self._four(rng)
        image = self.split.draw(rng, self.empty_share)
        view = _view(image, self.size, rng)
        givers = self.split.by_source[image.source][0]
        if not len(givers) or rng.random() >= self.copy_paste.get(image.source, 0.0):
            return view
        giver = self.split.images[rng.choice(givers)]
        return view if None in giver.rles else _paste(_view(giver, self.size, rng, with_mask=True), view)

    def _four(self, rng: np.random.Generator) -> View:
        """Four views about a random cross, each as large as the square it fills."""
        size = self.size
        cross_x, cross_y = (int(size * rng.uniform(0.35, 0.65)) for _ in range(2))
        pixels = np.zeros((size, size, 3), np.uint8)
        boxes, labels = [], []
        for left, right in ((0, cross_x), (cross_x, size)):
            for top, bottom in ((0, cross_y), (cross_y, size)):
                side = max(right - left, bottom - top)
                tile = _view(self.split.draw(rng, self.empty_share), side, rng, _TILE_ZOOMS)
                wide, high = right - left, bottom - top
                pixels[top:bottom, left:right] = tile.pixels[:high, :wide]
                inside = tile.boxes.clip(0, (wide, high, wide, high))
                keep = _areas(inside) >= 0.3 * _areas(tile.boxes)
                keep &= (inside[:, 2:] - inside[:, :2] >= 2).all(axis=1)
                boxes.append(inside[keep] + np.float32([left, top, left, top]))
                labels.append(tile.class_index[keep])
        return View(pixels, np.concatenate(boxes), np.concatenate(labels))


def _view(
    image: PreparedImage,
    size: int,
    rng: np.random.Generator,
    zooms: tuple[float, float] = _ZOOMS,
    *,
    with_mask: bool = False,
) -> View:
    canvas = image.pixels()
    matrix = random_placement(size, len(canvas), rng, scales=zooms)
    matrix = turn(matrix, random_turn(image.modality, rng), size)
    boxes, keep = place_outlines(image.outlines, matrix, size)
    mask = None
    if with_mask:
        whole = sum((image.mask(number).astype(np.uint8) for number in np.flatnonzero(keep)), np.zeros(()))
        whole = np.broadcast_to(np.minimum(whole, 1), canvas.shape[:2]).astype(np.uint8) * 255
        mask = cv2.GaussianBlur(place(whole, matrix, size).astype(np.float32) / 255, (0, 0), size / 200)
    pixels = vary_intensity(place(canvas, matrix, size), image.modality, rng)
    return View(pixels, boxes, image.class_index[keep], mask)


def _paste(giver: View, taker: View) -> View:
    """The giver's regions over the taker; the taker's regions that are mostly hidden then go."""
    alpha = giver.mask[..., None]
    pixels = (giver.pixels * alpha + taker.pixels * (1 - alpha)).round().astype(np.uint8)
    hidden = np.zeros(len(taker.boxes))
    for number, (left, top, right, bottom) in enumerate(taker.boxes.round().astype(int)):
        hidden[number] = giver.mask[top : bottom + 1, left : right + 1].mean()
    seen = hidden < _COVERED
    return View(
        pixels,
        np.concatenate([taker.boxes[seen], giver.boxes]),
        np.concatenate([taker.class_index[seen], giver.class_index]),
    )


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
