"""FastSAM (Zhao et al., arXiv 2306.12156): YOLOv8x-seg that segments everything, at 1024 pixels, float32.

Through ultralytics, which is under AGPL-3.0: an optional package of the evaluation, never part of the product. A box
picks the mask that overlaps it most, as FastSAM does.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np

from pipeline.errors import InputError

#: FastSAM's own settings (its Inference.py).
_SETTINGS = {"imgsz": 1024, "conf": 0.4, "iou": 0.9, "retina_masks": True, "device": "cpu", "verbose": False}


class FastSAM:
    """Where `checkpoint` is None its weights are random: good for its size and its speed, and for nothing else.

    `settings` holds ultralytics' settings that are not to be FastSAM's own.
    """

    def __init__(self, checkpoint: Path | None, threads: int | None = None, **settings: float):
        # it would install packages, look for updates and report use
        os.environ |= {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}
        try:
            from eval.baselines import suppression, torch_network

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from ultralytics.models.fastsam import FastSAMPredictor
                from ultralytics.nn.tasks import SegmentationModel, load_checkpoint
        except ModuleNotFoundError as error:
            expected = (
                "`pip install --no-deps ultralytics==8.4.190 ultralytics-thop polars` (AGPL-3.0), see eval/README.md"
            )
            raise InputError("FastSAM", f"the package {error.name!r} is not installed", expected) from None
        suppression.mend_torchvision()
        torch_network.set_threads(threads)
        torch_network.seed_weights()
        if checkpoint:
            network = load_checkpoint(str(checkpoint))[0].float()
        else:
            network = SegmentationModel("yolov8x-seg.yaml", nc=1, verbose=False)
        self.bytes = torch_network.bytes_of(network)
        self._predictor = FastSAMPredictor(overrides=_SETTINGS | {"save": False, "mode": "predict"} | settings)
        self._predictor.setup_model(network.eval(), verbose=False)

    def outline(self, pixels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Union of the masks that boxes (N, 4) pick, bool (H, W)."""
        self._predictor.set_prompts({"bboxes": boxes.round().astype(int)})
        return np.logical_or.reduce([np.zeros(pixels.shape[:2], bool), *self._masks(pixels)])

    def everything(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Every mask that it finds without any prompt, bool (H, W) each."""
        self._predictor.set_prompts({})
        return self._masks(pixels)

    def _masks(self, pixels: np.ndarray) -> list[np.ndarray]:
        (found,) = self._predictor(np.ascontiguousarray(pixels[..., ::-1]))  # it takes BGR
        return [] if found.masks is None else list(found.masks.data.numpy() > 0.5)
