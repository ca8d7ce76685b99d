"""The figures of a release: Dice and IoU with automatic boxes, box recall, false positives, milliseconds.

Dice and IoU of an image: the union of the predicted masks of a class against the union of its true masks, at original
size, on the original file. Every image with any truth counts, a miss is 0; mean over a source's images, then the mean
over sources (macro). Images without truth count as false positives apart.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from eval.intervals import macro_interval
from eval.metrics import dice, iou, matched_ious
from hub.files import replace_file
from hub.revision import git_revision, machine_name
from pipeline import AutoSegmenter
from pipeline.datasets import Sample, Source, read_source
from pipeline.errors import InputError
from pipeline.geometry import union_of


@dataclass(frozen=True)
class ImageFigures:
    """One image, one class.

    `dice` and `iou` are None where there is no truth; `box_ious` holds the matched IoU of each true box; `boxes` is
    how many boxes were found.
    """

    source: str
    sample: str
    patient: str
    dice: float | None
    iou: float | None
    box_ious: list[float]
    boxes: int
    total_ms: float
    segmented: bool


def measure(segment: AutoSegmenter, source: Source, sample: Sample, *, true_boxes: bool = False) -> ImageFigures:
    """Segment one sample with automatic boxes, or with the true ones, and compare."""
    label = source.classes[0]
    pixels, regions = sample.load()
    _, every_region = sample.load(every_pixel=True)
    boxes = np.array([region.box for region in regions], np.float32).reshape(-1, 4)
    truth = union_of((region.mask for region in every_region), pixels.shape[:2])
    found = segment(pixels, boxes=boxes if len(boxes) else None) if true_boxes else segment(pixels)
    ours = [number for number, name in enumerate(found.labels) if name == label or true_boxes]
    union = union_of((found.mask(number) for number in ours), truth.shape)
    any_truth = bool(truth.any())
    return ImageFigures(
        source.name,
        sample.name,
        sample.patient,
        dice(union, truth) if any_truth else None,
        iou(union, truth) if any_truth else None,
        matched_ious(found.detections.boxes[ours], boxes).round(4).tolist(),
        len(found),
        round(found.timings.total, 2),
        len(found) > 0,
    )


def summarise(rows: list[ImageFigures], sources: list[Source]) -> dict:
    """Figures a source and their macro mean, as the manifest holds them."""
    table = {}
    for source in sources:
        of = [row for row in rows if row.source == source.name]
        labelled = [row for row in of if row.dice is not None]
        empty = [row for row in of if row.dice is None]
        box_ious = np.array([value for row in labelled for value in row.box_ious])
        hits = box_ious >= 0.5
        table[source.name] = {
            "class": source.classes[0],
            "images": len(labelled),
            "dice": _mean([row.dice for row in labelled]),
            "iou": _mean([row.iou for row in labelled]),
            **_intervals({source.name: labelled}),
            "box_recall_50": _mean(hits),
            "matched_box_iou": _mean(box_ious[hits]),
            "empty_images": len(empty),
            "false_positives_per_empty_image": _mean([row.boxes for row in empty]),
        }
    keys = ("dice", "iou", "box_recall_50", "matched_box_iou", "false_positives_per_empty_image")
    macro = {}
    for key in keys:
        values = [row[key] for row in table.values() if row[key] is not None]
        macro[key] = _mean(values)
    macro |= _intervals({s.name: [r for r in rows if r.source == s.name and r.dice is not None] for s in sources})
    times = [row.total_ms for row in rows if row.segmented]
    return {
        "macro": macro,
        "sources": table,
        "total_ms_median": round(float(np.median(times)), 1) if times else None,
    }


def evaluate(segment: AutoSegmenter, sources: list[Source], split: str, *, every: int, true_boxes: bool) -> Iterator:
    """ImageFigures of every `every`-th sample of a split."""
    samples = [(source, sample) for source in sources for sample in source.samples if sample.split == split]
    for source, sample in tqdm(samples[::every], desc=f"{segment.precision} {split}", unit="image", disable=None):
        yield measure(segment, source, sample, true_boxes=true_boxes)


def read_sources(folder: Path, classes: tuple[str, ...]) -> list[Source]:
    """Data sets in `folder` (or the folder itself) with masks of one class that the release knows."""
    places = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    sources, refused = [], None
    for place in [folder, *places]:
        try:
            source = read_source(place)
        except InputError as error:
            refused = refused or error
            continue
        if len(source.classes) == 1 and source.classes[0] in classes:
            sources.append(source)
    if not sources:
        raise refused or InputError(folder, "no data set of the release's classes", f"one of {', '.join(classes)}")
    return sources


def _intervals(labelled: dict[str, list[ImageFigures]]) -> dict[str, list[float]]:
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
    figures = {
        "split": arguments.split,
        "command": f"python -m eval figures --data DATA --split {arguments.split}"
        + (" --true-boxes" if arguments.true_boxes else "")
        + (f" --every {arguments.every}" if arguments.every > 1 else ""),
        "revision": git_revision(),
        "machine": machine_name(),
        "date": time.strftime("%Y-%m-%d"),
    }
    every_row = []
    for precision in arguments.precisions.split(","):
        segment = AutoSegmenter.from_release(arguments.weights, precision, arguments.threads)
        sources = read_sources(arguments.data, tuple(segment.class_names.values()))
        rows = list(evaluate(segment, sources, arguments.split, every=arguments.every, true_boxes=arguments.true_boxes))
        figures[precision] = summarise(rows, sources)
        every_row += [{"precision": precision, **asdict(row)} for row in rows]
    with replace_file(arguments.out) as file:
        json.dump(figures, file, indent=1)
    if arguments.images_out:
        with replace_file(arguments.images_out) as file:
            file.writelines(json.dumps(row) + "\n" for row in every_row)
    print(
        json.dumps({precision: figures[precision]["macro"] for precision in arguments.precisions.split(",")}, indent=1)
    )
    return 0
