"""What turns given boxes into masks without any network: the baselines that any network has to beat.

Both take uint8 RGB pixels (H, W, 3) and boxes float32 (N, 4), xyxy in pixels, and give the union of their masks, bool
(H, W).
"""

from __future__ import annotations

import numpy as np


def box(pixels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The boxes themselves."""
    union = np.zeros(pixels.shape[:2], bool)
    for left, top, right, bottom in boxes.round().astype(int):
        union[max(0, top) : bottom, max(0, left) : right] = True
    return union


def ellipse(pixels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The ellipse that touches a box's sides: what a segmenter has to beat."""
    rows, columns = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    union = np.zeros(pixels.shape[:2], bool)
    for left, top, right, bottom in boxes.astype(float):
        across = (columns + 0.5 - (left + right) / 2) / max((right - left) / 2, 1e-6)
        down = (rows + 0.5 - (top + bottom) / 2) / max((bottom - top) / 2, 1e-6)
        union |= across**2 + down**2 <= 1
    return union
