"""The figures of a release, as its manifest, card and README show them; made of the same records as the table.

Dice and IoU of an image: the union of the predicted masks of a class against the union of its true masks, at original
size, on the original file. Every image with any truth counts, a miss is 0; mean over a source's images, then the mean
over sources (macro). Images without truth count as false positives apart.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from eval.intervals import macro_interval
from eval.measure import in_split, measure_row, read_sources
from eval.metrics import matched_ious
from eval.records import Record
from eval.row import Setting
from eval.rows import ROWS
from hub.files import replace_file
from hub.resolve import resolve
from hub.revision import git_revision, machine_name

#: What is averaged over sources.
_MACRO = ("dice", "iou", "box_recall_50", "matched_box_iou", "false_positives_per_empty_image")


def manifest_figures(records: list[Record]) -> dict:
    """Figures a source and their macro mean, as the manifest holds them for one precision."""
    by_source: dict[str, list[Record]] = {}
    for record in records:
        by_source.setdefault(record.source, []).append(record)
    sources = {name: _source_figures(name, of) for name, of in by_source.items()}
    macro = {key: _mean(row[key] for row in sources.values() if row[key] is not None) for key in _MACRO}
    labelled = {name: [record for record in of if record.dice is not None] for name, of in by_source.items()}
    times = [record.milliseconds for record in records if len(_boxes(record)) + record.others]
    return {
        "macro": macro | _intervals(labelled),
        "sources": sources,
        "total_ms_median": round(float(np.median(times)), 1) if times else None,
    }


def _source_figures(name: str, records: list[Record]) -> dict:
    labelled = [record for record in records if record.dice is not None]
    empty = [record for record in records if record.dice is None]
    ious = [matched_ious(_boxes(r), np.array(r.true_boxes, np.float32).reshape(-1, 4)) for r in labelled]
    box_ious = np.concatenate(ious) if ious else np.zeros(0)
    hits = box_ious >= 0.5
    return {
        "class": records[0].label,
        "images": len(labelled),
        "dice": _mean(record.dice for record in labelled),
        "iou": _mean(record.iou for record in labelled),
        **_intervals({name: labelled}),
        "box_recall_50": _mean(hits),
        "matched_box_iou": _mean(box_ious[hits]),
        "empty_images": len(empty),
        "false_positives_per_empty_image": _mean(len(_boxes(record)) + record.others for record in empty),
    }


def _boxes(record: Record) -> np.ndarray:
    """The row's boxes (N, 4); where it was given the true ones, those."""
    return np.array(record.true_boxes if record.boxes is None else record.boxes, np.float32).reshape(-1, 4)


def _intervals(labelled: dict[str, list[Record]]) -> dict[str, list[float]]:
    """95 % intervals by patient of the mean over sources of Dice and IoU; none without any image."""
    labelled = {name: rows for name, rows in labelled.items() if rows}
    by_patient = {
        key: {name: [(row.patient, getattr(row, key)) for row in rows] for name, rows in labelled.items()}
        for key in ("dice", "iou")
    }
    return {f"{key}_95": [round(end, 4) for end in macro_interval(of)] for key, of in by_patient.items() if of}


def _mean(values) -> float | None:
    values = list(values)
    return round(float(np.mean(values)), 4) if values else None


def about(split: str, command: str) -> dict:
    """What stands above a manifest's figures: how, where and when they were measured."""
    return {
        "split": split,
        "command": command,
        "revision": git_revision(),
        "machine": machine_name(),
        "date": time.strftime("%Y-%m-%d"),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder that holds the data sets")
    parser.add_argument("--split", choices=("train", "val", "test"), default="test")
    parser.add_argument("--weights", default="embedded", help="'embedded', a release folder, or user/repo@revision")
    parser.add_argument("--precisions", default="int8,fp32", help="comma-separated (default int8,fp32)")
    parser.add_argument("--true-boxes", action="store_true", help="prompt with the true boxes: a perfect detector")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every N-th image, for a quick look")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON of the figures")
    parser.add_argument("--images-out", type=Path, metavar="FILE", help="JSON lines, every image's figures")


def run(arguments: argparse.Namespace) -> int:
    command = f"python -m eval figures --data DATA --split {arguments.split}"
    command += " --true-boxes" if arguments.true_boxes else ""
    command += f" --every {arguments.every}" if arguments.every > 1 else ""
    figures, every_row = about(arguments.split, command), []
    classes = tuple(entry["name"] for entry in resolve(arguments.weights).config["classes"])
    samples = in_split(read_sources(arguments.data, classes), arguments.split)[:: arguments.every]
    precisions = arguments.precisions.split(",")
    for precision in precisions:
        row = ROWS[f"{precision}-true" if arguments.true_boxes else precision]
        ready = row.open(Setting(arguments.weights, arguments.threads, arguments.split))
        records = list(measure_row(row.name, ready, samples, {}))
        figures[precision] = manifest_figures(records)
        every_row += [{"precision": precision, **asdict(record)} for record in records]
    with replace_file(arguments.out) as file:
        json.dump(figures, file, indent=1)
    if arguments.images_out:
        with replace_file(arguments.images_out) as file:
            file.writelines(json.dumps(row) + "\n" for row in every_row)
    print(json.dumps({precision: figures[precision]["macro"] for precision in precisions}, indent=1))
    return 0
