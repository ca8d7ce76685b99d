"""Volumes and videos: each row segments the same sequences, without any prompt.

Rows: `frames` segments each slice or frame by itself, as the image chain does; `tubes` links the detector's boxes
through the stack first; `memory` carries masks by MedSAM2's memory, where the release has it. Which of the latter two
serves a class is chosen on val and stands in the release's config.json; both are measured for all classes.

Dice of a volume is that of all its voxels together; of a video it is the mean over its labelled frames with the object.
A stack without anything labelled counts as false voxels apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
from tqdm import tqdm

from eval.figures import about
from eval.intervals import mean_with_interval
from eval.measured import write_measured
from eval.metrics import dice
from hub.tables import markdown_table
from pipeline import AutoSegmenter
from pipeline.datasets.sequences import LabelledFrames, LabelledSequence, sequences
from pipeline.errors import InputError
from pipeline.geometry import union_of
from pipeline.stack import Stack
from pipeline.tracker import Tracker

#: Segments one stack for one class: stack, class name -> bool (N, H, W).
Outline = Callable[[Stack, str], np.ndarray]


@dataclass(frozen=True)
class StackRecord:
    """One sequence, segmented by one row.

    Attributes
    ----------
    kind : 'volume' or 'video'
    dice : 0..1; None where nothing of the class is labelled
    false_voxels : share of the stack that was found where nothing of the class is labelled, else None
    milliseconds : of the whole stack
    """

    row: str
    name: str
    source: str
    patient: str
    kind: str
    label: str
    frames: int
    dice: float | None
    false_voxels: float | None
    milliseconds: float


def frame_by_frame(segment: AutoSegmenter) -> Outline:
    """Each frame as an image of its own."""

    def outline(stack: Stack, label: str) -> np.ndarray:
        found = (segment(pixels, classes=[label]) for pixels in stack)
        return np.stack([union_of((of.mask(n) for n in range(len(of))), stack.size) for of in found])

    return outline


def tracked(segment: AutoSegmenter, *, memory: bool) -> Outline:
    """Boxes linked; `memory` carries the masks of all classes, or of none."""
    tracker = Tracker(segment)
    if memory and tracker.memory is None:
        raise InputError("--rows memory", "these weights hold no memory", "a release that `export --memory` wrote")
    tracker.rules = replace(tracker.rules, memory=tuple(segment.class_names.values()) if memory else ())

    def outline(stack: Stack, label: str) -> np.ndarray:
        found = tracker(stack, classes=[label])
        return np.stack([found.label_map(frame) > 0 for frame in range(len(stack))])

    return outline


def stack_dice(found: np.ndarray, truth: LabelledFrames, kind: str) -> float | None:
    """Dice of masks bool (N, H, W) on the frames that are labelled; None where nothing is. See the module's text."""
    pairs = [(found[truth.labelled], truth.masks[truth.labelled])]
    if not pairs[0][1].any():
        return None
    if kind == "video":
        pairs = [(ours, true) for ours, true in zip(*pairs[0], strict=True) if true.any()]
    return float(np.mean([dice(ours, true) for ours, true in pairs]))


def measure(row: str, outline: Outline, sequence: LabelledSequence) -> StackRecord:
    truth = sequence.load()
    stack = Stack(Path(sequence.name), sequence.kind, truth.frames, sequence.spacing_mm)
    start = perf_counter()
    found = outline(stack, sequence.label)
    milliseconds = (perf_counter() - start) * 1000
    value = stack_dice(found, truth, sequence.kind)
    return StackRecord(
        row=row,
        name=sequence.name,
        source=sequence.source,
        patient=sequence.patient,
        kind=sequence.kind,
        label=sequence.label,
        frames=len(stack),
        dice=None if value is None else round(value, 5),
        false_voxels=round(float(found[truth.labelled].mean()), 7) if value is None else None,
        milliseconds=round(milliseconds, 1),
    )


def summarise(records: list[StackRecord], reference: str) -> list[dict]:
    """Per row, source and kind: mean Dice, its interval by patient, the paired difference to the reference row."""
    of_reference = {(r.source, r.name): r.dice for r in records if r.row == reference}
    groups: dict[tuple[str, str, str], list[StackRecord]] = {}
    for record in records:
        if record.dice is not None:
            groups.setdefault((record.source, record.kind, record.row), []).append(record)
    lines = []
    for (source, kind, row), of in groups.items():
        values = [(record.patient, record.dice) for record in of]
        more = [(r.patient, r.dice - of_reference[r.source, r.name]) for r in of if (r.source, r.name) in of_reference]
        lines.append(
            {
                "source": source,
                "kind": kind,
                "row": row,
                "class": of[0].label,
                "stacks": len(of),
                "patients": len({record.patient for record in of}),
                "dice": mean_with_interval({source: values}),
                "more_than_reference": mean_with_interval({source: more} if more else {}),
                "seconds_a_stack": round(float(np.mean([record.milliseconds for record in of])) / 1000, 2),
                "milliseconds_a_frame": round(sum(r.milliseconds for r in of) / sum(r.frames for r in of), 1),
            }
        )
    return sorted(lines, key=lambda line: (line["kind"] == "video", line["source"]))


def table(lines: list[dict], reference: str) -> str:
    head = ["source", "kind", "row", "stacks", "patients", "Dice", f"more than `{reference}`", "ms a frame"]
    rows = []
    for line in lines:
        figures = [_shown(line["dice"]), "" if line["row"] == reference else _shown(line["more_than_reference"], "+")]
        counts = [str(line["stacks"]), str(line["patients"])]
        rows.append(
            [line["source"], line["kind"], line["row"], *counts, *figures, f"{line['milliseconds_a_frame']:.0f}"]
        )
    return markdown_table(head, rows, texts=3) + "\n"


def _shown(value: dict | None, sign: str = "") -> str:
    return "" if value is None else f"{value['mean']:{sign}.3f} ({value['low']:{sign}.3f} to {value['high']:{sign}.3f})"


def _all_sequences(data: Path, split: str, classes: set[str]) -> list[LabelledSequence]:
    if not data.is_dir():
        raise InputError(data, "no such folder", "the folder that holds the data sets")
    found = []
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        try:
            found += [one for one in sequences(folder, split) if one.label in classes]
        except InputError:
            continue  # a data set of single images
    if not found:
        raise InputError(data, f"no {split} sequence of a class of these weights", "LGG, hippocampus or Sunnybrook")
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="folder that holds the data sets")
    add("--split", choices=("train", "val", "test"), default="test")
    add("--weights", default="embedded", help="'embedded', a release folder, or user/repo@revision")
    add("--precision", default="int8")
    add("--rows", default="frames,tubes", help="comma-separated: frames, tubes, memory (default %(default)s)")
    add("--every", type=int, default=1, metavar="N", help="take every N-th sequence, for a quick look")
    add("--threads", type=int, help="CPU threads (default: all cores)")
    add("--out", type=Path, required=True, metavar="FOLDER", help="stacks.json and stacks.md")


def run(arguments: argparse.Namespace) -> int:
    segment = AutoSegmenter.from_release(arguments.weights, arguments.precision, arguments.threads)
    rows = {
        "frames": lambda: frame_by_frame(segment),
        "tubes": lambda: tracked(segment, memory=False),
        "memory": lambda: tracked(segment, memory=True),
    }
    names = arguments.rows.split(",")
    for name in names:
        if name not in rows:
            raise InputError("--rows", repr(name), ", ".join(rows))
    chosen = _all_sequences(arguments.data, arguments.split, set(segment.class_names.values()))[:: arguments.every]
    outlines = {name: rows[name]() for name in names}
    records = []
    for sequence in tqdm(chosen, unit="stack", disable=None):
        records += [measure(name, outline, sequence) for name, outline in outlines.items()]
    lines = summarise(records, names[0])
    command = f"python -m eval stacks --data DATA --split {arguments.split} --rows {arguments.rows}"
    results = about(arguments.split, command) | {"weights": segment.release.identity, "rows": lines}
    write_measured(
        arguments.out,
        "stacks",
        results | {"sequences": [asdict(record) for record in records]},
        table(lines, names[0]),
    )
    return 0
