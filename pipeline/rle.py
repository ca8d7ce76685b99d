"""COCO's compressed run lengths of a mask."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco_mask


def encode_mask(mask: np.ndarray) -> dict:
    """bool (H, W) -> COCO RLE, {"size": [H, W], "counts": bytes}."""
    return coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))
