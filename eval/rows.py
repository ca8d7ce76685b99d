"""The rows of the comparison table: what finds the boxes, and what outlines them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from eval import outliners
from eval.baselines.checkpoints import CHECKPOINTS
from eval.baselines.fast_sam import FastSAM
from eval.baselines.lite_medsam import LiteMedSAM
from eval.baselines.mobile_sam import MobileSAM
from eval.baselines.sam2_checkpoint import Sam2Checkpoint
from eval.half import half_release
from eval.metrics import iou
from eval.nnunet.rows import nnunet_rows
from eval.row import Outcome, Question, Ready, Row, Setting
from hub import resolve
from pipeline import AutoSegmenter
from pipeline.geometry import union_of
from pipeline.results import Segmentation
from pipeline.runtime import has_cuda

#: Networks that outline boxes: how they are opened, and the checkpoint that they need, where it does not come along.
_NETWORKS: dict[str, tuple[Callable, str | None]] = {
    "litemedsam": (lambda path, threads: LiteMedSAM(threads), None),
    "mobilesam": (MobileSAM, "mobilesam"),
    "fastsam": (FastSAM, "fastsam"),
    "sam2.1-tiny": (lambda path, threads: Sam2Checkpoint("SAM2.1 Hiera-T", path, 1024, threads), "sam2.1-tiny"),
    "medsam2": (lambda path, threads: Sam2Checkpoint("MedSAM2", path, 512, threads), "medsam2"),
    "medical-sam2": (lambda path, threads: Sam2Checkpoint("Medical SAM 2", path, 1024, threads), "medical-sam2"),
}


def rows_of(setting: Setting) -> dict[str, Row]:
    """Every row by its name, in the order of the table; nnU-Net has one for each source that it was trained on."""
    return ROWS | {row.name: row for row in nnunet_rows(setting.nnunet, setting.split)}


def _ours(precision: str, ask: Callable[[AutoSegmenter, Question], Outcome]) -> Callable[[Setting], Ready]:
    def open_row(setting: Setting) -> Ready:
        segment = AutoSegmenter.from_release(setting.weights, precision, setting.threads)
        size = resolve(setting.weights).manifest["precisions"].get(precision, {}).get("bytes")
        return Ready(lambda question: ask(segment, question), size)

    return open_row


def _half(setting: Setting) -> Ready:
    if has_cuda():
        return _ours("fp16", _automatic)(setting)
    with tempfile.TemporaryDirectory() as folder:
        release = half_release(resolve(setting.weights), Path(folder) / "half")
        segment = AutoSegmenter.from_release(release.folder, "fp32", setting.threads)
        return Ready(lambda question: _automatic(segment, question), release.manifest["precisions"]["fp32"]["bytes"])


def _automatic(segment: AutoSegmenter, question: Question) -> Outcome:
    found = segment(question.pixels)
    own = [number for number, label in enumerate(found.labels) if label == question.label]
    boxes, proposals = found.detections.boxes[own], _proposals(segment, question.pixels)
    return Outcome(_union(found, own), found.timings.total, boxes, len(found) - len(own), proposals)


def _with_true_boxes(segment: AutoSegmenter, question: Question) -> Outcome:
    found = segment(question.pixels, boxes=question.true_boxes, labels=[question.label] * len(question.true_boxes))
    return Outcome(_union(found, range(len(found))), found.timings.total)


def _outlined(outline: Callable[[np.ndarray, np.ndarray], np.ndarray], boxes: str) -> Callable[[Question], Outcome]:
    def answer(question: Question) -> Outcome:
        given = question.true_boxes if boxes == "true" else question.our_boxes
        start = time.perf_counter()
        mask = outline(question.pixels, given) if len(given) else np.zeros(question.pixels.shape[:2], bool)
        return Outcome(mask, (time.perf_counter() - start) * 1000)

    return answer


def _everything(segment: Callable[[np.ndarray], list[np.ndarray]]) -> Callable[[Question], Outcome]:
    def answer(question: Question) -> Outcome:
        start = time.perf_counter()
        masks = segment(question.pixels)
        spent = (time.perf_counter() - start) * 1000
        return Outcome(best_overlapping(masks, question.true_masks, question.pixels.shape[:2]), spent)

    return answer


def best_overlapping(masks: list[np.ndarray], truths: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """bool (H, W): of every true region the mask that overlaps it best. Only an oracle can choose so."""
    chosen = []
    for truth in truths:
        overlaps = [iou(mask, truth) for mask in masks]
        if any(overlaps):
            chosen.append(masks[int(np.argmax(overlaps))])
    return union_of(chosen, size)


def _network(name: str, boxes: str) -> Callable[[Setting], Ready]:
    def open_row(setting: Setting) -> Ready:
        build, needed = _NETWORKS[name]
        checkpoint = CHECKPOINTS[needed] if needed else None
        path = checkpoint.find(setting.checkpoints, setting.fetch) if checkpoint else None
        network = build(path, setting.threads)
        answer = _everything(network.everything) if boxes == "everything" else _outlined(network.outline, boxes)
        absent = checkpoint.absent(setting.checkpoints) if checkpoint and path is None else ""
        return Ready(answer, network.bytes, absent)

    return open_row


def _union(found: Segmentation, numbers: Iterable[int]) -> np.ndarray:
    return union_of((found.mask(number) for number in numbers), found.size)


def _proposals(segment: AutoSegmenter, pixels: np.ndarray) -> list[list]:
    found, names = segment.detector.propose(pixels), segment.class_names
    parts = zip(found.boxes.round(2).tolist(), found.scores.tolist(), found.class_ids.tolist(), strict=True)
    return [[*box, round(score, 4), names[class_id]] for box, score, class_id in parts]


def _drawn(name: str, title: str, outline: Callable, boxes: str) -> Row:
    return Row(name, title, boxes, lambda setting: Ready(_outlined(outline, boxes)), of_release=boxes == "ours")


def _of_network(name: str, title: str, boxes: str, network: str | None = None) -> Row:
    return Row(name, title, boxes, _network(network or name, boxes), of_release=boxes == "ours")


ROWS = {
    row.name: row
    for row in (
        Row("int8", "ours, INT8", "automatic", _ours("int8", _automatic)),
        Row("fp32", "ours, FP32", "automatic", _ours("fp32", _automatic)),
        Row("fp16", "ours, FP16" if has_cuda() else "ours, FP16 (rounded so on a CPU)", "automatic", _half),
        Row("int8-true", "ours, INT8", "true", _ours("int8", _with_true_boxes)),
        Row("fp32-true", "ours, FP32", "true", _ours("fp32", _with_true_boxes)),
        _drawn("ellipse", "ellipse in the box", outliners.ellipse, "ours"),
        _drawn("ellipse-true", "ellipse in the box", outliners.ellipse, "true"),
        _drawn("box", "the box itself", outliners.box, "ours"),
        _of_network("litemedsam", "LiteMedSAM, FP32", "ours"),
        _of_network("litemedsam-true", "LiteMedSAM, FP32", "true", "litemedsam"),
        _of_network("sam2.1-tiny", "SAM2.1 Hiera-T, FP32", "ours"),
        _of_network("medsam2", "official MedSAM2, FP32", "ours"),
        _of_network("medical-sam2", "Medical SAM 2, FP32", "ours"),
        _of_network("mobilesam", "MobileSAM, FP32", "ours"),
        _of_network("mobilesam-everything", "MobileSAM, FP32", "everything", "mobilesam"),
        _of_network("fastsam", "FastSAM-x, FP32", "ours"),
        _of_network("fastsam-everything", "FastSAM-x, FP32", "everything", "fastsam"),
    )
}
