"""Clicks as a person sets them who corrects a mask: in the middle of what is wrong, or anywhere in it."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.segmenter import NEGATIVE, PAD, POSITIVE

#: Share of clicks in the middle of the largest error; the others lie anywhere in what is wrong.
_IN_THE_MIDDLE = 0.5
#: Fewer wrong cells than this nobody would correct.
_LEAST_CELLS = 3


def click_on_error(
    logits: np.ndarray, truth: np.ndarray, rng: np.random.Generator | None
) -> tuple[tuple[float, float], int]:
    """One click for one mask.

    Parameters
    ----------
    logits, truth
        float32 (G, G); truth is the share of each cell that is inside.
    rng
        None for the middle of the largest error, always.

    Returns
    -------
    (x, y) in grid cells, and its label: POSITIVE on what is missing, NEGATIVE on what is too much, PAD where the mask
    is as good as right.
    """
    inside = truth >= 0.5
    wrong = (logits > 0) != inside
    if wrong.sum() < _LEAST_CELLS:
        return (0.0, 0.0), PAD
    if rng is None or rng.random() < _IN_THE_MIDDLE:
        depth = cv2.distanceTransform(np.pad(wrong, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
        row, column = np.unravel_index(depth.argmax(), depth.shape)
    else:
        row, column = rng.choice(np.argwhere(wrong))
    return (column + 0.5, row + 0.5), POSITIVE if inside[row, column] else NEGATIVE


def click_on_errors(logits: Tensor, truth: Tensor, rng: np.random.Generator | None) -> tuple[Tensor, Tensor]:
    """A click for each mask (N, G, G): points float32 (N, 1, 2) in input pixels, four to a cell; labels (N, 1)."""
    pairs = zip(logits.float().cpu().numpy(), truth.cpu().numpy(), strict=True)
    clicks = [click_on_error(found, true, rng) for found, true in pairs]
    points = torch.tensor([point for point, _ in clicks], dtype=torch.float32).view(-1, 1, 2) * 4
    labels = torch.tensor([label for _, label in clicks]).view(-1, 1)
    return points.to(logits.device), labels.to(logits.device)


def click_loss(logits: Tensor, clicks: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy of masks (N, G, G) in the very cells that were clicked on; 0 without any click.

    The losses over a whole region hardly notice one cell, so that clicks would only be taken as hints.
    """
    points, labels = clicks
    cells = (points / 4).long().clamp(0, logits.shape[-1] - 1)
    masks = torch.arange(len(logits), device=logits.device)[:, None]
    there = logits[masks, cells[..., 1], cells[..., 0]].float()
    entropy = F.binary_cross_entropy_with_logits(there, (labels == POSITIVE).float(), reduction="none")
    given = (labels != PAD).float()
    return (entropy * given).sum() / given.sum().clamp(min=1)
