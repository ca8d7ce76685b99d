"""Resize an image for a model, and take boxes and masks back: pixels and coordinates side by side.

Coordinates are continuous: pixel (row r, column c) covers [c, c+1) x [r, r+1), so a box that covers a whole image is
(0, 0, width, height) and scaling an image by s scales a box by s, with no half-pixel term.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

ResizeMode = Literal["letterbox", "squash"]
#: Of a coordinate that others give; NaN is not below it, and no float is made of a larger whole number.
LARGEST_COORDINATE = 1e9


@dataclass(frozen=True)
class Resize:
    """The way from an original image to a square model input, and back.

    `letterbox` keeps the aspect ratio and centres the image on a black canvas; `squash` (what MedSAM2 does) stretches
    it over the whole canvas; `around` stretches a part of it over the canvas, and the rest lies outside.

    Attributes
    ----------
    width, height : size of the original image in pixels
    size : side of the square input in pixels
    content : (left, top, right, bottom) of the image on the canvas, in pixels of it; may reach beyond the canvas
    """

    width: int
    height: int
    size: int
    content: tuple[float, float, float, float]

    @classmethod
    def plan(cls, width: int, height: int, size: int, mode: ResizeMode) -> Resize:
        if min(width, height, size) < 1:
            raise ValueError(f"sizes must be positive: image {width}x{height}, input {size}")
        if mode == "squash":
            return cls(width, height, size, (0, 0, size, size))
        if mode != "letterbox":
            raise ValueError(f"resize mode {mode!r}; expected 'letterbox' or 'squash'")
        scale = size / max(width, height)
        inner_w, inner_h = max(1, round(width * scale)), max(1, round(height * scale))
        left, top = (size - inner_w) // 2, (size - inner_h) // 2
        return cls(width, height, size, (left, top, left + inner_w, top + inner_h))

    @classmethod
    def around(cls, boxes: np.ndarray, width: int, height: int, size: int, factor: float) -> Resize:
        """The surroundings of boxes (N, 4), xyxy in pixels of the image, stretched over the canvas: a square `factor`
        times as long as the longer side of their common box, no larger than the image and inside it."""
        near, far = _pairs(boxes)[:, 0].min(0), _pairs(boxes)[:, 1].max(0)
        whole = np.array([width, height])
        sides = np.minimum(np.ceil((far - near).max() * factor).clip(1), whole)
        first = np.round((near + far - sides) / 2).clip(0, whole - sides)
        scale = size / sides
        (left, top), (right, bottom) = (-first * scale).tolist(), ((whole - first) * scale).tolist()
        return cls(width, height, size, (left, top, right, bottom))

    @property
    def scale(self) -> tuple[float, float]:
        """Input pixels per original pixel, (x, y)."""
        left, top, right, bottom = self.content
        return (right - left) / self.width, (bottom - top) / self.height

    @property
    def window(self) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of what lies on the canvas, in pixels of the original."""
        corners = self.boxes_back(np.array([[0, 0, self.size, self.size]]))[0]
        left, top, right, bottom = corners.round().astype(int).tolist()
        return left, top, right, bottom

    def shows(self, boxes: np.ndarray) -> bool:
        """Whether boxes (N, 4), xyxy in pixels of the original, lie on the canvas as a whole."""
        left, top, right, bottom = self.window
        near, far = _pairs(boxes)[:, 0], _pairs(boxes)[:, 1]
        return bool((near >= (left, top)).all() and (far <= (right, bottom)).all())

    def image(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) or (H, W) -> uint8 (size, size[, 3]); bilinear with antialiasing when it shrinks.

        Raises
        ------
        ValueError
            Where the image is not of the planned size.
        """
        if pixels.shape[:2] != (self.height, self.width):
            raise ValueError(f"image {pixels.shape}; expected height {self.height}, width {self.width}")
        left, top, right, bottom = self.window
        pixels = pixels[top:bottom, left:right]
        canvas = np.zeros((self.size, self.size, *pixels.shape[2:]), np.uint8)
        left, top, right, bottom = (round(edge) for edge in np.clip(self.content, 0, self.size))
        inner = canvas[top:bottom, left:right]
        if pixels.ndim == 2:
            inner[:] = _shrink_or_grow(pixels, right - left, bottom - top)
        # Channel by channel: Pillow would first copy an RGB image into four bytes a pixel, 430 MB of 12000x9000.
        for channel in range(pixels.shape[2] if pixels.ndim == 3 else 0):
            inner[..., channel] = _shrink_or_grow(pixels[..., channel], right - left, bottom - top)
        return canvas

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """bool (H, W) -> bool (size, size): true where at least half of a pixel's area is."""
        return self.image(mask.astype(np.uint8) * 255) >= 128

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """float32 (N, 4) xyxy in original pixels -> xyxy in input pixels."""
        return (_pairs(boxes) * self.scale + self.content[:2]).reshape(-1, 4).astype(np.float32)

    def boxes_in_cells(self, boxes: np.ndarray, grid: int) -> np.ndarray:
        """float32 (N, 4) xyxy in original pixels -> xyxy in cells of a mask's grid, `grid` x `grid` over the input."""
        return self.boxes(boxes) * (grid / self.size)

    def points(self, points: np.ndarray) -> np.ndarray:
        """float32 (..., 2), (x, y) in original pixels -> input pixels."""
        return (np.asarray(points, np.float64) * self.scale + self.content[:2]).astype(np.float32)

    def boxes_back(self, boxes: np.ndarray) -> np.ndarray:
        """float32 (N, 4) xyxy in input pixels -> xyxy in original pixels, clipped to the image."""
        back = (_pairs(boxes) - self.content[:2]) / self.scale
        return back.clip(0, (self.width, self.height)).reshape(-1, 4).astype(np.float32)

    def mask_back(self, logits: np.ndarray, rows: slice | None = None) -> np.ndarray:
        """Logits on a grid over the whole input, float32 (G, G) -> bool (rows, W) at the original size.

        Bilinear, then > 0, as SAM does. `rows` picks a band of the original's rows, so that a large mask can be
        expanded piece by piece; the pieces are exactly the whole. What lies outside of the input is not inside.
        """
        first, last, _ = (rows or slice(None)).indices(self.height)
        grid = logits.shape[0] / self.size
        left, top, right, bottom = (edge * grid for edge in self.content)
        columns = _interpolate(np.asarray(logits, np.float32).T, left, right, self.width, 0, self.width)
        return _interpolate(np.ascontiguousarray(columns.T), top, bottom, self.height, first, last) > 0


def _shrink_or_grow(plane: np.ndarray, width: int, height: int) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(plane))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def _interpolate(values: np.ndarray, start: float, stop: float, count: int, first: int, last: int) -> np.ndarray:
    """Bring the stretch [start, stop) of the first axis to `count` samples, bilinear, antialiased when it shrinks.

    Gives the samples first..last of them, each the same whatever the others are; 0 for one whose centre lies outside of
    the values. Pillow's own resize with a `box`
    does not: it rounds the box to float32, so a band's pixels can fall on the other side of a threshold.
    """
    step = (stop - start) / count
    reach = max(step, 1.0)
    centres = start + (np.arange(first, last) + 0.5) * step
    index = np.floor(centres - reach + 0.5)[:, None] + np.arange(math.ceil(2 * reach))
    weights = (1 - np.abs(index + 0.5 - centres[:, None]) / reach).clip(0)
    weights[(index < 0) | (index >= len(values))] = 0
    weights = (weights / np.maximum(weights.sum(1, keepdims=True), 1e-9)).astype(np.float32)
    index = index.clip(0, len(values) - 1).astype(np.intp)
    weights[(centres < 0) | (centres > len(values))] = 0
    samples = weights[:, :1] * values[index[:, 0]]
    for tap in range(1, index.shape[1]):
        samples += weights[:, tap : tap + 1] * values[index[:, tap]]
    return samples


def _pairs(boxes: np.ndarray) -> np.ndarray:
    return np.asarray(boxes, np.float64).reshape(-1, 2, 2)


def union_of(masks: Iterable[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """bool (height, width) of `size`: where any of the masks is."""
    union = np.zeros(size, bool)
    for mask in masks:
        union |= mask
    return union


def xyxy_to_xywh(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) corners -> [x, y, width, height]."""
    boxes = np.asarray(boxes).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def xywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) [x, y, width, height] -> corners."""
    boxes = np.asarray(boxes).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of every box of `a` (N, 4) with every box of `b` (M, 4), both xyxy -> float64 (N, M) in 0..1."""
    a, b = np.asarray(a, np.float64).reshape(-1, 1, 4), np.asarray(b, np.float64).reshape(1, -1, 4)
    overlap = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - overlap
    return overlap / np.maximum(union, 1e-9)


def box_of_mask(mask: np.ndarray) -> np.ndarray:
    """Tight xyxy box, float32 (4,), of a bool (H, W) mask; all zero where it is empty."""
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return np.zeros(4, np.float32)
    return np.array([cols[0], rows[0], cols[-1] + 1, rows[-1] + 1], np.float32)
