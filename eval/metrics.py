"""Overlap of masks, of their outlines, and of boxes."""

from __future__ import annotations

import warnings

import numpy as np

from pipeline.geometry import box_iou

#: Outlines are compared on images of at most this many pixels a side.
_OUTLINE_SIDE = 640


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|) of two bool masks; 1 where both are empty."""
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else 1.0


def iou(found: np.ndarray, truth: np.ndarray) -> float:
    """|A and B| / |A or B| of two bool masks; 1 where both are empty."""
    union = int((found | truth).sum())
    return int((found & truth).sum()) / union if union else 1.0


def surface_dice(found: np.ndarray, truth: np.ndarray) -> float:
    """Normalised surface distance (Nikolov et al. 2018), 0..1: the share of both outlines that lies within 1 % of the
    image's diagonal of the other. Outlines are compared at most 640 pixels large; 1 where both masks are empty.

    Needs the package surface-distance.
    """
    from surface_distance import compute_surface_dice_at_tolerance, compute_surface_distances

    if not found.any() or not truth.any():
        return float(found.any() == truth.any())
    step = -(-max(truth.shape) // _OUTLINE_SIDE)
    found, truth = (np.pad(mask[::step, ::step], 1) for mask in (found, truth))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it calls scipy by names that scipy 2 will drop
        distances = compute_surface_distances(truth, found, (1.0, 1.0))
    return float(compute_surface_dice_at_tolerance(distances, 0.01 * float(np.hypot(*truth.shape))))


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
