"""Overlap of masks and of boxes."""

from __future__ import annotations

import numpy as np

from pipeline.geometry import box_iou


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|) of two bool masks; 1 where both are empty."""
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else 1.0


def iou(found: np.ndarray, truth: np.ndarray) -> float:
    """|A and B| / |A or B| of two bool masks; 1 where both are empty."""
    union = int((found | truth).sum())
    return int((found & truth).sum()) / union if union else 1.0


def matched_ious(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The IoU that each true box (M, 4) has with its own found box (N, 4), both xyxy -> float64 (M,), 0 where none.

    A found box serves one true box: pairs are taken in the order of their IoU.
    """
    overlaps, best = box_iou(truth, found), np.zeros(len(truth))
    while overlaps.size and overlaps.max() > 0:
        row, column = np.unravel_index(overlaps.argmax(), overlaps.shape)
        best[row] = overlaps[row, column]
        overlaps[row], overlaps[:, column] = 0, 0
    return best
