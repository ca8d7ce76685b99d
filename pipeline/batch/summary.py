"""What a report says, counted from the tables a piece at a time: an archive's tables need not fit into the memory."""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pyarrow import parquet

from pipeline.batch.tables import table_path

SCORE_BINS, SIZE_BINS = 20, 24
#: Sizes are counted in steps of a factor, from 1 pixel, and from 0.001 ml.
_PIXEL_DECADES, _ML_DECADES, _LEAST_ML = 8, 8, 1e-3
#: Inputs on each contact sheet, and examples of each kind of failure.
_SHOWN, _EXAMPLES = 12, 3


@dataclass
class Label:
    """How often one class was found, and how surely and how large; sizes of images and videos in pixels, else in ml."""

    class_id: int
    regions: int = 0
    inputs: int = 0
    scores: list[int] = field(default_factory=lambda: [0] * SCORE_BINS)
    pixels: list[int] = field(default_factory=lambda: [0] * SIZE_BINS)
    millilitres: list[int] = field(default_factory=lambda: [0] * SIZE_BINS)


@dataclass
class Failure:
    """One kind of problem: how often, and the first sentences."""

    count: int = 0
    sentences: list[str] = field(default_factory=list)


@dataclass
class Summary:
    """`most_sure` and `least_sure` are (score of the surest region, input, place of its JSON) of single inputs."""

    statuses: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    out_of_scope: int = 0
    nothing_found: int = 0
    labels: dict[str, Label] = field(default_factory=dict)
    most_sure: list[tuple[float, str, str]] = field(default_factory=list)
    least_sure: list[tuple[float, str, str]] = field(default_factory=list)
    failures: dict[str, Failure] = field(default_factory=dict)
    total_ms: list[float] = field(default_factory=list)


def summarise(out: Path) -> Summary:
    """Count the tables of a folder of results."""
    summary = Summary()
    surest = _count_detections(out, summary)
    scored = _count_inputs(out, summary, surest)
    summary.most_sure = heapq.nlargest(_SHOWN, scored, key=lambda entry: entry[0])
    summary.least_sure = heapq.nsmallest(_SHOWN, scored, key=lambda entry: entry[0])
    for row in _rows(table_path(out, "failures")):
        failure = summary.failures.setdefault(re.sub(r"\d+", "N", row["problem"]), Failure())
        failure.count += 1
        if len(failure.sentences) < _EXAMPLES:
            failure.sentences.append(row["sentence"])
    summary.total_ms = [row["total_ms"] for row in _rows(table_path(out, "timings")) if row["total_ms"] is not None]
    return summary


def _count_detections(out: Path, summary: Summary) -> dict[str, float]:
    """Counts every region; returns the score of the surest one of each content."""
    surest: dict[str, float] = {}
    last_input: dict[str, str] = {}
    for row in _rows(table_path(out, "detections")):
        label = summary.labels.setdefault(row["label"], Label(row["class_id"]))
        label.regions += 1
        if last_input.get(row["label"]) != row["input"]:
            last_input[row["label"]] = row["input"]
            label.inputs += 1
        label.scores[min(int(row["score"] * SCORE_BINS), SCORE_BINS - 1)] += 1
        if row["area_px"]:
            label.pixels[_size_bin(row["area_px"], _PIXEL_DECADES)] += 1
        elif row["volume_ml"]:
            label.millilitres[_size_bin(row["volume_ml"] / _LEAST_ML, _ML_DECADES)] += 1
        surest[row["sha256"]] = max(row["score"], surest.get(row["sha256"], 0.0))
    return surest


def _count_inputs(out: Path, summary: Summary, surest: dict[str, float]) -> list[tuple[float, str, str]]:
    """Counts every input; returns those with regions, each content once."""
    scored: dict[str, tuple[float, str, str]] = {}
    for row in _rows(table_path(out, "inputs")):
        summary.statuses[row["status"]] += 1
        if row["status"] != "done":
            continue
        summary.kinds[row["kind"]] += 1
        summary.out_of_scope += bool(row["out_of_scope"])
        summary.nothing_found += not row["regions"]
        if row["sha256"] in surest:
            scored.setdefault(row["sha256"], (surest[row["sha256"]], row["input"], row["result"]))
    return list(scored.values())


def _size_bin(size: float, decades: int) -> int:
    return min(max(0, int(math.log10(max(size, 1.0)) * SIZE_BINS / decades)), SIZE_BINS - 1)


def _rows(table: Path) -> Iterator[dict]:
    with parquet.ParquetFile(table) as file:
        for batch in file.iter_batches():
            yield from batch.to_pylist()
