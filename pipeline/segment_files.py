"""`python -m pipeline segment`: many inputs, one after the other; a bad one is named and the others still run."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from tqdm import tqdm

from pipeline.auto_segmenter import AutoSegmenter
from pipeline.errors import InputError
from pipeline.geometry import xywh_to_xyxy
from pipeline.inputs import find_scans, output_names
from pipeline.result_files import unwritable, write_result_files
from pipeline.results import Segmentation
from pipeline.scan import Scan, read_scan


def segment_files(arguments: argparse.Namespace) -> int:
    """Segment every input of the parsed command line; returns 2 if any was refused, else 0.

    Raises
    ------
    InputError, WeightsError
        For what concerns all inputs: the folder of the results, an unknown class, weights that can't be used.
    """
    _make_folder(arguments.out)
    paths, refused = find_scans(arguments.paths)
    for error in refused:
        _say(error)
    if not paths:
        return 2 if refused else 0
    segmenter = AutoSegmenter.from_release(arguments.weights, arguments.precision, arguments.threads)
    _check_classes(arguments.classes, segmenter)
    failed = len(refused)
    names = output_names(paths)
    for path, name in zip(tqdm(paths, unit="image", disable=not sys.stderr.isatty()), names, strict=True):
        try:
            scan, segmentation = _segment(segmenter, path, arguments)
            write_result_files(arguments.out, name, str(path), scan.pixels, segmentation)
        except InputError as error:
            _say(error)
            failed += 1
            continue
        if not arguments.quiet:
            tqdm.write(_summary(path, segmentation), file=sys.stdout)
    return 2 if failed else 0


def _segment(segmenter: AutoSegmenter, path: Path, arguments: argparse.Namespace) -> tuple[Scan, Segmentation]:
    start = perf_counter()
    scan = read_scan(path)
    read = (perf_counter() - start) * 1000
    boxes = xywh_to_xyxy(arguments.boxes) if arguments.boxes else None
    segmentation = segmenter(scan, boxes=boxes, classes=arguments.classes, min_score=arguments.min_score)
    timings = segmentation.timings
    return scan, replace(segmentation, timings=replace(timings, read=read, total=timings.total + read))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


def _check_classes(names: list[str] | None, segmenter: AutoSegmenter) -> None:
    known = list(segmenter.class_names.values())
    for name in names or ():
        if name not in known:
            raise InputError("--classes", f"{name!r} is not a class of these weights", ", ".join(known))


def _summary(path: Path, segmentation: Segmentation) -> str:
    found = ", ".join(
        f"{label} {score:.2f}" for label, score in zip(segmentation.labels, segmentation.detections.scores, strict=True)
    )
    return f"{path}: {found or 'nothing found'} ({segmentation.timings.total:.0f} ms)"


def _say(problem: object) -> None:
    """One line on stderr that does not tear the progress bar."""
    tqdm.write(" ".join(str(problem).splitlines()), file=sys.stderr)
