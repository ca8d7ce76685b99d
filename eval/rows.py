"""The rows of the comparison table: what finds the boxes, and what outlines them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from eval.outliners import OUTLINERS
from pipeline import AutoSegmenter
from pipeline.geometry import union_of
from pipeline.results import Segmentation

#: The row whose boxes the rows with "our boxes" take, and that all others are compared with.
REFERENCE = "int8"


@dataclass(frozen=True)
class Outcome:
    """What a row makes of one image.

    Attributes
    ----------
    mask : bool (H, W), the union of what it found of the class
    milliseconds : of the whole method on this image, without reading the file
    boxes : float32 (N, 4) xyxy, the boxes it found of the class; None where it was given boxes
    others : how many boxes of other classes it found
    proposals : [x1, y1, x2, y2, score, label] of every box it considered, surest first; for average precision
    """

    mask: np.ndarray
    milliseconds: float
    boxes: np.ndarray | None = None
    others: int = 0
    proposals: list[list] = field(default_factory=list)


@dataclass(frozen=True)
class Question:
    """One image as a row is asked about it: uint8 RGB pixels (H, W, 3), the class, true boxes and our boxes (N, 4)."""

    pixels: np.ndarray
    label: str
    true_boxes: np.ndarray
    our_boxes: np.ndarray


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes
    ----------
    name : for `--rows`, and its file's
    title : what the table calls it
    boxes : 'automatic', 'true', or 'ours', those of the reference row
    open : weights, threads -> what answers questions; raises InputError where a part is lacking
    """

    name: str
    title: str
    boxes: str
    open: Callable[[str, int | None], Callable[[Question], Outcome]]


def _automatic(precision: str) -> Callable:
    def open_row(weights: str, threads: int | None) -> Callable[[Question], Outcome]:
        segment = AutoSegmenter.from_release(weights, precision, threads)

        def answer(question: Question) -> Outcome:
            found = segment(question.pixels)
            own = [number for number, label in enumerate(found.labels) if label == question.label]
            return Outcome(
                _union(found, own),
                found.timings.total,
                found.detections.boxes[own],
                len(found) - len(own),
                _proposals(segment, question.pixels),
            )

        return answer

    return open_row


def _with_true_boxes(precision: str) -> Callable:
    def open_row(weights: str, threads: int | None) -> Callable[[Question], Outcome]:
        segment = AutoSegmenter.from_release(weights, precision, threads)

        def answer(question: Question) -> Outcome:
            found = segment(question.pixels, boxes=question.true_boxes)
            return Outcome(_union(found, range(len(found))), found.timings.total)

        return answer

    return open_row


def _outlined(outliner: str, boxes: str) -> Callable:
    def open_row(weights: str, threads: int | None) -> Callable[[Question], Outcome]:
        outline = OUTLINERS[outliner]()

        def answer(question: Question) -> Outcome:
            given = question.true_boxes if boxes == "true" else question.our_boxes
            start = time.perf_counter()
            mask = outline(question.pixels, given) if len(given) else np.zeros(question.pixels.shape[:2], bool)
            return Outcome(mask, (time.perf_counter() - start) * 1000)

        return answer

    return open_row


def _union(found: Segmentation, numbers: Iterable[int]) -> np.ndarray:
    return union_of((found.mask(number) for number in numbers), found.size)


def _proposals(segment: AutoSegmenter, pixels: np.ndarray) -> list[list]:
    found, names = segment.detector.propose(pixels), segment.class_names
    parts = zip(found.boxes.round(2).tolist(), found.scores.tolist(), found.class_ids.tolist(), strict=True)
    return [[*box, round(score, 4), names[class_id]] for box, score, class_id in parts]


ROWS = {
    row.name: row
    for row in (
        Row("int8", "ours, INT8", "automatic", _automatic("int8")),
        Row("fp32", "ours, FP32", "automatic", _automatic("fp32")),
        Row("fp16", "ours, FP16", "automatic", _automatic("fp16")),
        Row("int8-true", "ours, INT8", "true", _with_true_boxes("int8")),
        Row("fp32-true", "ours, FP32", "true", _with_true_boxes("fp32")),
        Row("ellipse", "ellipse in the box", "ours", _outlined("ellipse", "ours")),
        Row("ellipse-true", "ellipse in the box", "true", _outlined("ellipse", "true")),
        Row("box", "the box itself", "ours", _outlined("box", "ours")),
        Row("litemedsam", "LiteMedSAM, FP32", "ours", _outlined("litemedsam", "ours")),
        Row("litemedsam-true", "LiteMedSAM, FP32", "true", _outlined("litemedsam", "true")),
    )
}
