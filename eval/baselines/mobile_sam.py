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
    """Where `checkpoint` is None its weights are random: good for its size and its speed, and for nothing else.

    `generator` holds what its generator of masks of everything takes, instead of its defaults.
    """

    def __init__(self, checkpoint: Path | None, threads: int | None = None, **generator: float):
        try:
            from eval.baselines import suppression, torch_network

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it imports timm by names of old, and registers its models twice
                import mobile_sam
                from mobile_sam.build_sam import build_sam_vit_t
        except ModuleNotFoundError as error:
            expected = "the environment of requirements-eval.txt"
            raise InputError("MobileSAM", f"the package {error.name!r} is not installed", expected) from None
        suppression.mend_torchvision()
        torch_network.set_threads(threads)
        torch_network.seed_weights()
        network = build_sam_vit_t()
        if checkpoint:
            torch_network.load_weights(network, checkpoint)
        self.bytes = torch_network.bytes_of(network)
        self._predictor = mobile_sam.SamPredictor(network)
        self._generator = mobile_sam.SamAutomaticMaskGenerator(network, **generator)

    def outline(self, pixels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Union of the masks of boxes (N, 4), bool (H, W)."""
        self._predictor.set_image(pixels)
        masks = [self._predictor.predict(box=box, multimask_output=False)[0][0] for box in boxes]
        return np.logical_or.reduce(masks)

    def everything(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Every mask that it finds without any prompt, bool (H, W) each."""
        return [found["segmentation"] for found in self._generator.generate(pixels)]
