"""Non-maximum suppression for a torchvision without its operators.

torchvision's wheel is built for CUDA, and beside a CPU torch it has none; MobileSAM and FastSAM need this one.
"""

from __future__ import annotations

import numpy as np
import torch

from pipeline.geometry import box_iou


def mend_torchvision() -> None:
    """Put `nms` in the place of torchvision's where that can't run; a torchvision that matches torch keeps its own."""
    import torchvision

    if not torchvision.extension._has_ops():
        torchvision.ops.nms = torchvision.ops.boxes.nms = nms


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """As torchvision.ops.nms: places of the boxes (N, 4) that no surer box overlaps by more, surest first."""
    order = scores.argsort(descending=True, stable=True)
    ordered = boxes[order].numpy()
    overlaps = box_iou(ordered, ordered) > iou_threshold
    kept = np.ones(len(order), bool)
    for place in range(len(order)):
        if kept[place]:
            kept[place + 1 :] &= ~overlaps[place, place + 1 :]
    return order[torch.from_numpy(kept)]
