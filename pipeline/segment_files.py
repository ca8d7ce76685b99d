"""`python -m pipeline segment`: many inputs, one after the other; a bad one is named and the others still run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from pipeline.auto_segmenter import AutoSegmenter
from pipeline.errors import InputError
from pipeline.geometry import xywh_to_xyxy
from pipeline.inputs import find_inputs, is_stack, output_names
from pipeline.result_files import result_paths, unwritable, write_result_files
from pipeline.results import OUT_OF_SCOPE, Segmentation
from pipeline.scan import Scan, read_scan

if TYPE_CHECKING:
    from pipeline.stack import Stack
    from pipeline.tracks import Tracking


def segment_files(arguments: argparse.Namespace) -> int:
    """Segment every input of the parsed command line; returns 2 if any was refused, else 0.

    Raises
    ------
    InputError, WeightsError
        For what concerns all inputs: the folder of the results, an unknown class, weights that can't be used.
    """
    _make_folder(arguments.out)
    paths, refused = find_inputs(arguments.paths, arguments.frames)
    for error in refused:
        _say(error)
    if not paths:
        return 2 if refused else 0
    segmenter = AutoSegmenter.from_release(arguments.weights, arguments.precision, arguments.threads)
    _check_classes(arguments.classes, segmenter)
    failed = len(refused)
    names = output_names(paths)
    inputs = {path.resolve() for path in paths}
    for path in tqdm(paths, unit="input", disable=not sys.stderr.isatty()):
        try:
            run = _run_stack if is_stack(path) else _run_image
            line = run(segmenter, path, names[path], inputs, arguments)
        except InputError as error:
            _say(error)
            failed += 1
            continue
        if not arguments.quiet:
            tqdm.write(line, file=sys.stdout)
    return 2 if failed else 0


def _run_image(
    segmenter: AutoSegmenter, path: Path, name: PurePath, inputs: set[Path], arguments: argparse.Namespace
) -> str:
    """Segment an image and write its files; returns the line that says what was found."""
    boxes = xywh_to_xyxy(arguments.boxes).astype(np.float32) if arguments.boxes else None
    options = {"boxes": boxes, "classes": arguments.classes, "min_score": arguments.min_score}
    return _summary(path, image_to_files(segmenter, path, arguments.out, name, spare=inputs, **options))


def _run_stack(
    segmenter: AutoSegmenter, path: Path, name: PurePath, inputs: set[Path], arguments: argparse.Namespace
) -> str:
    """Segment a volume or a video and write its files; returns the line that says what was found."""
    if arguments.boxes:
        raise InputError(path, "a volume or a video, with --box", "a single image with it")
    options = {name: getattr(arguments, name) for name in ("axis", "window", "classes", "min_score")}
    with tqdm(unit="frame", leave=False, disable=not sys.stderr.isatty()) as bar:

        def progress(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        found = stack_to_files(segmenter, path, arguments.out, name, spare=inputs, progress=progress, **options)
    return _stack_summary(path, *found)


def image_to_files(
    segmenter: AutoSegmenter,
    path: Path,
    out: Path,
    name: PurePath,
    *,
    file: str | None = None,
    spare: Container[Path] = (),
    boxes: np.ndarray | None = None,
    classes: Sequence[str] | None = None,
    min_score: float | None = None,
) -> Segmentation:
    """Segment an image and write its files, see `write_result_files`. The options are those of `AutoSegmenter`.

    Parameters
    ----------
    file
        The input as the JSON names it; None for the path.
    spare
        Files that no result may overwrite.

    Raises
    ------
    InputError
        Where the image can't be read, an option does not suit it, or a file can't be written.
    """
    _spare_inputs(result_paths(out, name), spare)
    scan, segmentation = segment_file(segmenter, path, boxes=boxes, classes=classes, min_score=min_score)
    write_result_files(out, name, file or str(path), scan.pixels, segmentation)
    return segmentation


def stack_to_files(
    segmenter: AutoSegmenter,
    path: Path,
    out: Path,
    name: PurePath,
    *,
    file: str | None = None,
    spare: Container[Path] = (),
    axis: int | None = None,
    window: tuple[float, float] | None = None,
    classes: Sequence[str] | None = None,
    min_score: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Stack, Tracking]:
    """Segment a volume or a video and write its files, as `image_to_files` does those of an image.

    `axis` and `window` are those of `read_stack`; `progress(done, of)` is called with numbers of frames.
    """
    # nibabel and PyAV take as long to load as an image to segment
    from pipeline.stack import read_stack
    from pipeline.stack_files import stack_result_paths, write_stack_files
    from pipeline.tracker import Tracker, choose_axis

    start = perf_counter()
    stack = read_stack(path, axis=axis, window=window)
    read = perf_counter()
    _spare_inputs(stack_result_paths(out, name, stack.kind), spare)
    if progress:
        progress(0, len(stack))
    if axis is None:
        stack = choose_axis(stack, segmenter, classes)
    chosen = perf_counter()
    tracking = Tracker(segmenter)(stack, classes=classes, min_score=min_score, progress=progress)
    timings = dict.fromkeys(("read", "detect", "embed", "memory", "decode", "post", "total"), 0.0) | tracking.timings_ms
    timings["read"], timings["total"] = (read - start) * 1000, (perf_counter() - start) * 1000
    timings["detect"] += (chosen - read) * 1000  # to choose an axis is to detect
    tracking = replace(tracking, timings_ms=timings)
    write_stack_files(out, name, file or str(path), stack, tracking)
    return stack, tracking


def segment_file(
    segmenter: AutoSegmenter,
    path: Path,
    *,
    boxes: np.ndarray | None = None,
    classes: Sequence[str] | None = None,
    min_score: float | None = None,
) -> tuple[Scan, Segmentation]:
    """Read one file and segment it; the timings include the reading. The options are those of `AutoSegmenter`.

    Raises
    ------
    InputError
        Where the file can't be read, or an option does not suit the image or the weights.
    """
    start = perf_counter()
    scan = read_scan(path)
    read = (perf_counter() - start) * 1000
    _check_boxes(path, scan, boxes)
    segmentation = segmenter(scan, boxes=boxes, classes=classes, min_score=min_score)
    timings = segmentation.timings
    return scan, replace(segmentation, timings=replace(timings, read=read, total=timings.total + read))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


def _spare_inputs(results: Iterable[Path], inputs: Container[Path]) -> None:
    """A folder with `scan.png` and a true mask `scan_mask.png` must not lose the latter when it is --out, too."""
    for result in results:
        if result.resolve() in inputs:
            raise InputError(result, "is an input that a result would overwrite", "another folder as --out")


def _check_classes(names: list[str] | None, segmenter: AutoSegmenter) -> None:
    known = list(segmenter.class_names.values())
    for name in names or ():
        if name not in known:
            raise InputError("--classes", f"{name!r} is not a class of these weights", ", ".join(known))


def _check_boxes(path: Path, scan: Scan, boxes: np.ndarray | None) -> None:
    """Boxes as the user gave them, [x, y, width, height]: what fits one image may lie beside another."""
    height, width = scan.pixels.shape[:2]
    for x0, y0, x1, y1 in () if boxes is None else boxes:
        if min(x1, width) <= max(x0, 0) or min(y1, height) <= max(y0, 0):
            box = f"{x0:g},{y0:g},{x1 - x0:g},{y1 - y0:g}"
            raise InputError(
                path, f"the box {box} lies outside", f"one that covers some of its {width}x{height} pixels"
            )


def _summary(path: Path, segmentation: Segmentation) -> str:
    found = ", ".join(
        f"{label} {score:.2f}" for label, score in zip(segmentation.labels, segmentation.detections.scores, strict=True)
    )
    line = f"{path}: {found or 'nothing found'} ({segmentation.timings.total:.0f} ms)"
    return f"{line}. {OUT_OF_SCOPE}" if segmentation.out_of_scope else line


def _stack_summary(path: Path, stack: Stack, tracking: Tracking) -> str:
    noun = "slices" if stack.kind == "volume" else "frames"
    found = ", ".join(
        f"{track.label} {track.score:.2f} in {noun} {track.span[0]}-{track.span[1]}" for track in tracking.tracks
    )
    line = f"{path}: {found or 'nothing found'} ({len(stack)} {noun}, {tracking.timings_ms['total']:.0f} ms)"
    return ". ".join((line, *stack.notes))


def _say(problem: object) -> None:
    """One line on stderr that does not tear the progress bar."""
    tqdm.write(" ".join(str(problem).splitlines()), file=sys.stderr)
