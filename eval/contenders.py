"""What `python -m eval latency` times: this release in its precisions, its plain fp32 export, and other segmenters.

A contender takes uint8 RGB pixels (H, W, 3) and gives the milliseconds of its stages: detect where it finds boxes
itself, embed (with resizing and normalising), decode, post (the mask at the original size), total.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from eval.exports import exported
from hub.resolve import resolve
from pipeline import AutoSegmenter
from pipeline.geometry import Resize
from pipeline.runtime import open_session
from pipeline.segmenter import plan_input

STAGES = ("detect", "embed", "decode", "post", "total")
_MEAN, _STD = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])

Timed = Callable[[np.ndarray], dict[str, float]]


@dataclass(frozen=True)
class Setting:
    """Which release, the folder of the other networks' exports, CPU threads."""

    weights: str
    exports: Path
    threads: int


@dataclass(frozen=True)
class Contender:
    """A row of the table.

    Attributes
    ----------
    precision : of the release; None for a network of `eval.exports`
    open : Setting -> what runs one image; raises InputError where it can't run here
    files : Setting -> the graphs that it needs on disk
    """

    title: str
    precision: str | None
    open: Callable[[Setting], Timed]
    files: Callable[[Setting], list[Path]]


class _Release:
    """The whole chain with automatic boxes. `objects` is how many it found in the last image."""

    def __init__(self, setting: Setting, precision: str):
        self.segment, self.objects = AutoSegmenter.from_release(setting.weights, precision, setting.threads), 0

    def __call__(self, pixels: np.ndarray) -> dict[str, float]:
        self.segment.forget_embeddings()
        start = perf_counter()
        found = self.segment(pixels)
        told = perf_counter()
        for number in range(len(found)):
            found.mask(number)
        end = perf_counter()
        self.objects = len(found)
        expanded, timings = 1000 * (end - told), found.timings
        return {
            "detect": timings.detect,
            "embed": timings.embed,
            "decode": timings.decode,
            "post": timings.post + expanded,
            "total": 1000 * (end - start),
        }


class _Reference:
    """The release's networks as torch exports them: float input normalised here, the surest box alone is decoded."""

    objects = 1

    def __init__(self, setting: Setting):
        release = resolve(setting.weights)
        paths = exported("reference", release, setting.exports)
        self.detector, self.encoder, self.decoder = (open_session(path, setting.threads) for path in paths.values())
        self.detector_settings, self.segmenter_settings = release.config["detector"], release.config["segmenter"]

    def __call__(self, pixels: np.ndarray) -> dict[str, float]:
        start = perf_counter()
        height, width = pixels.shape[:2]
        resize = plan_input(self.detector_settings, width, height)
        image = resize.image(pixels).astype(np.float32).transpose(2, 0, 1)[None] / 255
        boxes, scores = self.detector.run(None, {"image": image})
        box = resize.boxes_back(boxes[0, scores[0].max(-1).argmax()])
        detected = perf_counter()
        resize = plan_input(self.segmenter_settings, width, height, box)
        features = self.encoder.run(None, {"image": _normalised(resize.image(pixels))})
        embedded = perf_counter()
        given = dict(zip(("embedding", "high_res_0", "high_res_1"), features, strict=True))
        logits = self.decoder.run(None, given | {"box": resize.boxes(box)})[0][0]
        decoded = perf_counter()
        resize.mask_back(logits)
        return _stages(start, detected, embedded, decoded, perf_counter())


class _Boxed:
    """A segmenter that is given a box: the middle of the image."""

    objects = 1

    def __init__(self, setting: Setting, network: str, size: int, normalise: Callable[[np.ndarray], np.ndarray]):
        paths = exported(network, resolve(setting.weights), setting.exports)
        self.encoder, self.decoder = (open_session(path, setting.threads) for path in paths.values())
        self.size, self.normalise = size, normalise

    def __call__(self, pixels: np.ndarray) -> dict[str, float]:
        height, width = pixels.shape[:2]
        box = np.float32([width, height, width, height]) * np.float32([0.25, 0.25, 0.75, 0.75])
        start = perf_counter()
        resize = Resize.plan(width, height, self.size, "letterbox")
        embedding = self.encoder.run(None, {"image": self.normalise(resize.image(pixels))})[0]
        embedded = perf_counter()
        logits = self.decoder.run(None, {"embedding": embedding, "box": resize.boxes(box)})[0][0]
        decoded = perf_counter()
        resize.mask_back(logits)
        return _stages(start, None, embedded, decoded, perf_counter())


def _stages(start: float, detected: float | None, embedded: float, decoded: float, end: float) -> dict[str, float]:
    moments = {"detect": detected, "embed": embedded, "decode": decoded, "post": end}
    stages, before = {}, start
    for stage, moment in moments.items():
        if moment is not None:
            stages[stage], before = 1000 * (moment - before), moment
    return stages | {"total": 1000 * (end - start)}


def _normalised(canvas: np.ndarray) -> np.ndarray:
    """uint8 (S, S, 3) -> float32 (1, 3, S, S) with ImageNet's mean and deviation."""
    return ((canvas.astype(np.float32) - _MEAN) / _STD).transpose(2, 0, 1)[None]


def _min_max(canvas: np.ndarray) -> np.ndarray:
    """uint8 (S, S, 3) -> float32 (1, 3, S, S) in 0..1, as LiteMedSAM takes it."""
    low, high = canvas.min(), canvas.max()
    return ((canvas.astype(np.float32) - low) / max(float(high - low), 1e-8)).transpose(2, 0, 1)[None]


def _own_files(precision: str) -> Callable[[Setting], list[Path]]:
    def files(setting: Setting) -> list[Path]:
        release = resolve(setting.weights)
        return [release.file(name) for name in release.manifest["files"] if name.startswith(f"onnx/{precision}/")]

    return files


def _other_files(network: str) -> Callable[[Setting], list[Path]]:
    return lambda setting: list(exported(network, resolve(setting.weights), setting.exports).values())


def _own(precision: str, title: str) -> Contender:
    return Contender(title, precision, lambda setting: _Release(setting, precision), _own_files(precision))


def _other(network: str, title: str, open_: Callable[[Setting], Timed]) -> Contender:
    return Contender(title, None, open_, _other_files(network))


#: The first is what the others are compared with.
CONTENDERS = {
    "int8": _own("int8", "ours, INT8"),
    "int4": _own("int4", "ours, INT4 weights"),
    "fp32": _own("fp32", "ours, FP32"),
    "fp16": _own("fp16", "ours, FP16"),
    "reference": _other("reference", "ours, FP32 before any graph work", _Reference),
    "lite_medsam": _other(
        "lite_medsam",
        "LiteMedSAM, FP32 ONNX, box given",
        lambda setting: _Boxed(setting, "lite_medsam", 256, _min_max),
    ),
    "mobile_sam": _other(
        "mobile_sam",
        "MobileSAM's architecture (random weights), FP32 ONNX, box given",
        lambda setting: _Boxed(setting, "mobile_sam", 1024, _normalised),
    ),
}
