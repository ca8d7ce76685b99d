"""One set of boxes from several looks at the same image."""

from __future__ import annotations

import numpy as np

from pipeline.geometry import box_iou

#: Boxes of one class that overlap by more show the same.
_SAME = 0.55


def fuse_boxes(looks: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted box fusion (Solovyev et al. 2021): boxes that show the same become their mean, weighted by score.

    Parameters
    ----------
    looks
        Of each look: boxes float32 (N, 4) xyxy, scores float32 (N,), class indices int64 (N,).

    Returns
    -------
    The same three, surest first. A score is the sum of the scores that went into it by the number of looks, at most 1:
    what only one look found counts for little.
    """
    if len(looks) == 1:
        return looks[0]
    boxes, scores, index = (np.concatenate(parts) for parts in zip(*looks, strict=True))
    left = np.argsort(-scores, kind="stable")
    fused = []
    while len(left):
        same = (box_iou(boxes[left[:1]], boxes[left])[0] > _SAME) & (index[left] == index[left[0]])
        same[0] = True
        group = left[same]
        weights = scores[group].astype(np.float64)
        mean = (weights / weights.sum()) @ boxes[group].astype(np.float64)
        fused.append((mean, min(1.0, weights.sum() / len(looks)), index[left[0]]))
        left = left[~same]
    fused.sort(key=lambda entry: -entry[1])
    return (
        np.array([mean for mean, _, _ in fused], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in fused], np.float32),
        np.array([label for _, _, label in fused], np.int64),
    )
