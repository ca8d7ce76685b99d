"""MobileSAM (Zhang et al., arXiv 2306.14289): SAM with a TinyViT encoder, at 1024 pixels, float32.

From the package mobilesam-mirror, with its own preprocessing, its box prompt, and its generator of masks of everything
(32 x 32 points, its default thresholds).
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from pipeline.errors import InputError


class MobileSAM:
    """Where `checkpoint` is None its weights are random: good for its size and its speed, and for nothing else."""

    def __init__(self, checkpoint: Path | None, threads: int | None = None):
        try:
            from eval.baselines import torch_network

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it imports timm by names of old, and registers its models twice
                import mobile_sam
                from mobile_sam import automatic_mask_generator
                from mobile_sam.build_sam import build_sam_vit_t
        except ModuleNotFoundError as error:
            expected = "the environment of requirements-eval.txt"
            raise InputError("MobileSAM", f"the package {error.name!r} is not installed", expected) from None
        _mend_nms(automatic_mask_generator)
        torch_network.set_threads(threads)
        torch_network.seed_weights()
        network = build_sam_vit_t()
        if checkpoint:
            torch_network.load_weights(network, checkpoint)
        self.bytes = torch_network.bytes_of(network)
        self._predictor = mobile_sam.SamPredictor(network)
        self._generator = mobile_sam.SamAutomaticMaskGenerator(network)

    def outline(self, pixels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Union of the masks of boxes (N, 4), bool (H, W)."""
        self._predictor.set_image(pixels)
        masks = [self._predictor.predict(box=box, multimask_output=False)[0][0] for box in boxes]
        return np.logical_or.reduce(masks)

    def everything(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Every mask that it finds without any prompt, bool (H, W) each."""
        return [found["segmentation"] for found in self._generator.generate(pixels)]


def _mend_nms(module) -> None:
    """torchvision's wheel is built for CUDA and has no operators beside a CPU torch; its generator needs one."""
    from torchvision import extension

    if not extension._has_ops():
        module.batched_nms = batched_nms


def batched_nms(boxes, scores, classes, iou_threshold: float):
    """As torchvision.ops.batched_nms: places of the boxes (N, 4) that no surer box of their class overlaps more."""
    import torch

    from pipeline.geometry import box_iou

    order = scores.argsort(descending=True, stable=True)
    sorted_boxes, sorted_classes = boxes[order].numpy(), classes[order].numpy()
    overlaps = (box_iou(sorted_boxes, sorted_boxes) > iou_threshold) & (sorted_classes[:, None] == sorted_classes)
    kept = np.ones(len(order), bool)
    for place in range(len(order)):
        if kept[place]:
            kept[place + 1 :] &= ~overlaps[place, place + 1 :]
    return order[torch.from_numpy(kept)]
