"""Calibration: prepared train images as a graph's inputs, and what a float graph's tensors look like on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from pipeline.errors import InputError
from pipeline.geometry import Resize
from pipeline.runtime import open_session
from pipeline.segmenter import box_to_points, plan_input
from pipeline.training.prepared import PreparedImage, PreparedSplit

Feed = dict[str, np.ndarray]
#: Boxes of an image that the decoder is calibrated with, at most.
_BOXES = 4


def pick_images(split: PreparedSplit, count: int, subject: Path) -> list[PreparedImage]:
    """About `count` images with regions, in turns from each source, evenly spaced in it; `subject` for the error."""
    by_source = defaultdict(list)
    for image in split.images:
        if len(image.boxes):
            by_source[image.source].append(image)
    if not by_source:
        expected = "at least one, in a folder that `python -m pipeline prepare` wrote"
        raise InputError(subject, "no train image with a region to calibrate on", expected)
    share = -(-count // len(by_source))
    spaced = [
        [images[i] for i in np.unique(np.linspace(0, len(images) - 1, share).round().astype(int))]
        for _, images in sorted(by_source.items())
    ]
    turns = [images[turn] for turn in range(share) for images in spaced if turn < len(images)]
    return turns[:count]


@dataclass(frozen=True)
class Calibration:
    """Images, and how the release's graphs take them.

    Attributes
    ----------
    config : of the release
    encoder : its fp32 encoder, whose features the decoder is fed with
    """

    images: Sequence[PreparedImage]
    config: dict
    encoder: Path | None = None

    def feeds(self, graph: str) -> Iterator[Feed]:
        """A graph's inputs, an image at a time."""
        return _FEEDS[graph](self)

    def _detector(self) -> Iterator[Feed]:
        size = self.config["detector"]["input_size"]
        for image in self.images:
            yield {"image": _resized(image.pixels(), size, "letterbox")[None]}

    def _encoder(self) -> Iterator[Feed]:
        for image in self.images:
            yield {"image": self._plan(image).image(content(image))[None]}

    def _decoder(self) -> Iterator[Feed]:
        encoder = open_session(self.encoder)
        names = [output.name for output in encoder.get_outputs()]
        for image, feed in zip(self.images, self._encoder(), strict=True):
            coords, labels = box_to_points(_boxes(image)[:_BOXES])
            features = dict(zip(names, encoder.run(None, feed), strict=True))
            yield features | {"point_coords": self._plan(image).points(coords), "point_labels": labels}

    def _plan(self, image: PreparedImage) -> Resize:
        """As the segmenter looks at it: the whole image, or the surroundings of its regions."""
        left, top, right, bottom = image.content
        return plan_input(self.config["segmenter"], right - left, bottom - top, _boxes(image))


_FEEDS: dict[str, Callable[[Calibration], Iterator[Feed]]] = {
    "detector": Calibration._detector,
    "image_encoder": Calibration._encoder,
    "mask_decoder": Calibration._decoder,
}


def _boxes(image: PreparedImage) -> np.ndarray:
    """float32 (N, 4), xyxy in pixels of the image without its canvas."""
    left, top, _, _ = image.content
    return image.boxes - np.float32([left, top, left, top])


def content(image: PreparedImage) -> np.ndarray:
    """The image itself, uint8 (H, W, 3), without the canvas around it."""
    left, top, right, bottom = image.content
    return np.ascontiguousarray(image.pixels()[top:bottom, left:right])


def _resized(pixels: np.ndarray, size: int, mode: str) -> np.ndarray:
    return Resize.plan(pixels.shape[1], pixels.shape[0], size, mode).image(pixels)


@dataclass(frozen=True)
class ChannelStatistics:
    """Of a tensor's last axis, over calibration images: mean and largest magnitude, float32 (C,)."""

    mean: np.ndarray
    largest: np.ndarray


def channel_statistics(
    model: onnx.ModelProto, tensors: Sequence[str], feeds: Iterator[Feed]
) -> dict[str, ChannelStatistics]:
    """Run a float graph and look at some of its tensors."""
    session = _watching(model, tensors)
    seen: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    for feed in feeds:
        for name, value in zip(tensors, session.run(None, feed), strict=True):
            rows = value.reshape(-1, value.shape[-1])
            seen[name].append((rows.mean(0), np.abs(rows).max(0)))
    return {
        name: ChannelStatistics(np.mean([mean for mean, _ in parts], 0), np.max([most for _, most in parts], 0))
        for name, parts in seen.items()
    }


def image_extremes(
    model: onnx.ModelProto, tensors: Sequence[str], feeds: Iterator[Feed]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Tensor -> its least and its largest value in each image, float32 (images,) each."""
    session, seen = _watching(model, tensors), defaultdict(list)
    for feed in feeds:
        for name, value in zip(tensors, session.run(None, feed), strict=True):
            seen[name].append((value.min(), value.max()))
    return {name: tuple(np.array(ends, np.float32).T) for name, ends in seen.items()}


def _watching(model: onnx.ModelProto, tensors: Sequence[str]) -> onnxruntime.InferenceSession:
    """A session that gives these tensors of a float graph."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    float32 = onnx.TensorProto.FLOAT
    watched.graph.output.extend(onnx.helper.make_tensor_value_info(name, float32, None) for name in tensors)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
