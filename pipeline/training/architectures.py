"""The two networks, built from their packages with random weights.

YOLO-NAS-S comes from super-gradients; SAM2.1 Hiera-T at 512 pixels, MedSAM2's architecture
(bowang-lab `sam2.1_hiera_t512.yaml`), from sam2's own configuration.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import logging
import os
import warnings

import torch
from torch import nn


def _declare_torchvision_operators() -> None:
    """torchvision's wheel is built for CUDA and fails at import beside a CPU torch, unless these are declared."""
    if torch.version.cuda is not None:
        return
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):  # already there: a matching torchvision
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _LIBRARIES.append(library)


_LIBRARIES: list = []  # a Library's definitions live as long as it does
_declare_torchvision_operators()

#: Side of the segmenter's square input in pixels (MedSAM2's 512).
SEGMENTER_SIZE = 512


def build_detector(num_classes: int) -> nn.Module:
    """YOLO-NAS-S, random weights. Input float32 (B, 3, S, S) RGB in 0..1, S a multiple of 32."""
    os.environ.setdefault("CRASH_HANDLER", "FALSE")
    logging.getLogger("super_gradients").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)  # setuptools is pinned for it
        from super_gradients.training import models

    return models.get("yolo_nas_s", num_classes=num_classes, pretrained_weights=None)


def build_segmenter(image_size: int = SEGMENTER_SIZE) -> nn.Module:
    """SAM2Base with a Hiera-T image encoder, random weights. Input float32 (B, 3, S, S), ImageNet-normalised.

    `pred_obj_scores` stays on in the modules, so that official checkpoints load strictly; training switches it off on
    the outer model until the object-score head has learned (else it hides every mask).
    """
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    path = importlib.resources.files("sam2") / "configs" / "sam2.1" / "sam2.1_hiera_t.yaml"
    config = OmegaConf.create(path.read_text()).model
    config.image_size = image_size
    feature_size = image_size // 16
    for attention in ("self_attention", "cross_attention"):
        config.memory_attention.layer[attention].feat_sizes = [feature_size, feature_size]
    return instantiate(config, _recursive_=True)
