"""Outlines as a second teacher of the detector: what its finest map must tell of each cell, in training alone.

A box says little about a region's shape, so a detector that learns from few images learns more where it must also paint
them (He et al. 2017, "Mask R-CNN"). The head that paints goes when training ends.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, one_hot

#: In a map of regions: nobody knows what this pixel shows, because its image only has boxes.
UNKNOWN = 255
#: The name under which a detector carries the head while it learns.
HEAD = "mask_head"
_STRIDE = 8


class MaskHead(nn.Module):
    """A detector's finest map float32 (B, C, S/8, S/8) -> logits (B, K, S/8, S/8), one a class."""

    def __init__(self, channels: int, num_classes: int):
        super().__init__()
        self.inner = nn.Conv2d(channels, channels, 3, padding=1)
        self.outer = nn.Conv2d(channels, num_classes, 1)
        nn.init.constant_(self.outer.bias, -4.0)  # most cells show nothing

    def forward(self, finest: Tensor) -> Tensor:
        return self.outer(torch.relu(self.inner(finest)))


def mask_loss(logits: Tensor, regions: Tensor) -> Tensor:
    """Cross-entropy and Dice loss of each class's cells.

    Parameters
    ----------
    logits
        (B, K, S/8, S/8).
    regions
        uint8 (B, S, S): 0 for nothing, class index + 1, or `UNKNOWN`.
    """
    classes, known = logits.shape[1], regions != UNKNOWN
    shown = one_hot(torch.where(known, regions, 0).long(), classes + 1)[..., 1:].permute(0, 3, 1, 2).float()
    share = avg_pool2d(shown, _STRIDE)
    weight = (avg_pool2d(known[:, None].float(), _STRIDE) == 1).float()
    logits = logits.float()
    entropy = binary_cross_entropy_with_logits(logits, share, weight.expand_as(share))
    painted = logits.sigmoid() * weight
    both = (painted * share).sum((2, 3))
    dice = 1 - (2 * both + 1) / ((painted + share * weight).sum((2, 3)) + 1)
    present = ((share * weight).sum((2, 3)) > 0).float()
    return 10 * entropy + (dice * present).sum() / present.sum().clamp(min=1)
