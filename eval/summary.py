"""From the records of every row to the figures of the table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from eval.intervals import mean_with_interval
from eval.metrics import matched_ious
from eval.records import Record
from pipeline.training.detection_metrics import average_precision

_METRICS = ("dice", "iou", "nsd")


def summarise_row(records: list[Record], reference: dict[tuple[str, str], Record]) -> dict:
    """The figures of a row: macro and a source, with 95 % intervals by patient, boxes, times, loss to `reference`.

    Images without truth count as false positives apart. A row that lacks images is compared on those that it has.
    """
    labelled, empty = _by_source(records, True), _by_source(records, False)
    macro = {name: _with_interval(labelled, name) for name in _METRICS}
    sources = {
        source: {
            "class": of[0].label,
            "images": len(of),
            **{name: round(float(np.mean([getattr(record, name) for record in of])), 4) for name in _METRICS},
            "less_than_reference": _difference({source: of}, reference),
        }
        for source, of in labelled.items()
    }
    times = np.array([record.milliseconds for record in records])
    return {
        "images": len(records),
        "macro": macro,
        "sources": sources,
        "boxes": _boxes(labelled, empty) if records and records[0].boxes is not None else None,
        "milliseconds": {name: round(float(np.percentile(times, at)), 1) for name, at in (("p50", 50), ("p90", 90))},
        "less_than_reference": _difference(labelled, reference),
    }


def _by_source(records: Iterable[Record], with_truth: bool) -> dict[str, list[Record]]:
    groups = defaultdict(list)
    for record in records:
        if (record.dice is not None) == with_truth:
            groups[record.source].append(record)
    return dict(groups)


def _with_interval(labelled: dict[str, list[Record]], name: str) -> dict | None:
    values = {source: [(record.patient, getattr(record, name)) for record in of] for source, of in labelled.items()}
    return mean_with_interval(values)


def _difference(labelled: dict[str, list[Record]], reference: dict[tuple[str, str], Record]) -> dict | None:
    """Macro mean of this row's Dice less the reference's on the same images, with its paired interval."""
    values = {
        source: [(r.patient, r.dice - reference[r.key].dice) for r in of if r.key in reference]
        for source, of in labelled.items()
    }
    values = {source: of for source, of in values.items() if of}
    return mean_with_interval(values)


def _boxes(labelled: dict[str, list[Record]], empty: dict[str, list[Record]]) -> dict:
    """Recall at IoU 0.5, mean IoU of the boxes that hit, false boxes an empty image (macro), and average precision."""
    recalls, hits = [], []
    for of in labelled.values():
        ious = np.concatenate([matched_ious(_array(r.boxes), _array(r.true_boxes)) for r in of])
        if len(ious):
            recalls.append(float((ious >= 0.5).mean()))
        if (ious >= 0.5).any():
            hits.append(float(ious[ious >= 0.5].mean()))
    false = [float(np.mean([len(r.boxes) + r.others for r in of])) for of in empty.values()]
    figures = {"recall_50": recalls, "matched_iou": hits, "false_positives_per_empty_image": false}
    return {name: round(float(np.mean(of)), 4) if of else None for name, of in figures.items()} | _precision(
        [record for groups in (labelled, empty) for of in groups.values() for record in of]
    )


def _precision(records: list[Record]) -> dict:
    """AP50 and AP50-95 over classes; a box in an image of another class's source is a false one."""
    ids = {label: number for number, label in enumerate(sorted({record.label for record in records}), 1)}
    true = [(_array(r.true_boxes), np.full(len(r.true_boxes), ids[r.label])) for r in records]
    found = []
    for record in records:
        known = [proposal for proposal in record.proposals if proposal[5] in ids]
        scores, labels = np.array([p[4] for p in known], float), np.array([ids[p[5]] for p in known], int)
        found.append((_array([p[:4] for p in known]), scores, labels))
    values = average_precision(true, found)
    return dict(zip(("ap50", "ap50_95"), [round(value, 4) for value in values] if values else [None] * 2, strict=True))


def _array(boxes: list[list[float]]) -> np.ndarray:
    return np.array(boxes, np.float32).reshape(-1, 4)
