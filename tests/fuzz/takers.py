"""What an input is given to: what a user's file goes through, from being looked at to its result's files."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from hub import Release
from page.stack_upload import upload
from page.take_away import write_stack_take_away, write_take_away
from pipeline.edits import read_edits
from pipeline.errors import InputError
from pipeline.geometry import Resize
from pipeline.inputs import find_inputs, is_stack
from pipeline.results import Detections, Segmentation
from pipeline.rle import decode_mask, encode_mask
from pipeline.scan import Scan, read_scan
from pipeline.stack import Stack, read_stack
from pipeline.tracks import Track, Tracking
from tests.fuzz.seeds import Seed

#: Of a larger result the files are not written: that takes its time honestly.
_MOST_WRITTEN_PX = 4_000_000
_WEIGHTS = {"version": "0", "sha256": "0"}
_NAMES = {1: "lung"}


def take(kind: str, seed: Seed, folder: Path, out: Path) -> int:
    """Give the files of `folder`, which are those of `seed`, to the readers, and what they read to the writers.

    Returns
    -------
    pixels read

    Raises
    ------
    InputError, WeightsError
        Where the input is refused. Anything else is a fault.
    """
    return _TAKERS.get(kind, _take_file)(folder, min(seed.files, key=_last_voxels), out)


def _last_voxels(name: str) -> tuple[bool, str]:
    """A header that stands alone comes before its voxels."""
    return name.endswith(".raw"), name


def _take_file(folder: Path, name: str, out: Path) -> int:
    """As the command line does, and then as the page's other tab would, where somebody puts it there."""
    return _take_path(folder / name, out)


def _take_path(path: Path, out: Path) -> int:
    stack = is_stack(path)
    try:
        return _taken_as(stack, path, out)
    finally:
        with suppress(InputError):
            _taken_as(not stack, path, None)


def _taken_as(stack: bool, path: Path, out: Path | None) -> int:
    if not stack:
        scan = read_scan(path)
        size = scan.pixels.shape[0] * scan.pixels.shape[1]
        if out and size <= _MOST_WRITTEN_PX:
            write_take_away(out, scan, one_region(scan), _NAMES)
        return size
    found = read_stack(path)
    size = len(found) * found.size[0] * found.size[1]
    if out and size <= _MOST_WRITTEN_PX:
        write_stack_take_away(out, found, one_object(found))
    return size


def one_region(scan: Scan) -> Segmentation:
    """A disc in the middle, as a network would find it."""
    height, width = scan.pixels.shape[:2]
    rows, columns = np.mgrid[-1:1:16j, -1:1:16j]
    box = np.array([[width / 4, height / 4, width * 3 / 4, height * 3 / 4]], np.float32)
    return Segmentation(
        detections=Detections(box, np.array([0.9], np.float32), np.array([1])),
        labels=("lung",),
        mask_logits=np.where(rows**2 + columns**2 < 0.3, 8, -8).astype(np.float32)[None],
        mask_ious=np.array([0.9], np.float32),
        resize=Resize.plan(width, height, 16, "squash"),
        precision="int8",
        weights=_WEIGHTS,
        spacing_mm=scan.spacing_mm,
    )


def one_object(stack: Stack) -> Tracking:
    """A block in the middle of the first two slices."""
    height, width = stack.size
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height * 3 // 4 + 1, width // 4 : width * 3 // 4 + 1] = True
    rle = encode_mask(mask)
    track = Track("lung", 1, 0.9, (0,), {0: rle, 1: rle} if len(stack) > 1 else {0: rle}, {0: 0.9})
    return Tracking((len(stack), height, width), (track,), "int8", _WEIGHTS, timings_ms={"total": 1.0})


def _take_folder(folder: Path, name: str, out: Path) -> int:
    """All that the command line finds in a folder; the first refusal is the folder's."""
    paths, refused = find_inputs([folder])
    sizes = []
    for path in paths:
        try:
            sizes.append(_take_path(path, out))
        except InputError as error:
            refused.append(error)
    if refused:
        raise refused[0]
    return sum(sizes)


def _take_upload(folder: Path, name: str, out: Path) -> int:
    with upload([folder / name]) as path:
        return _taken_as(True, path, out)


def _take_release(folder: Path, name: str, out: Path) -> int:
    Release.open(folder)
    return 0


def _json(path: Path) -> object:
    """Files of edits and masks come as parsed JSON: what is no JSON never gets there."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise InputError(path, "not valid JSON", "JSON") from None


def _take_rle(folder: Path, name: str, out: Path) -> int:
    rle = _json(folder / name)
    return decode_mask(rle, 31, 24, str(folder / name)).size


def _take_edits(folder: Path, name: str, out: Path) -> int:
    for edit in read_edits(_json(folder / name)):
        edit.to_json()
    return 0


def _take_coco(folder: Path, name: str, out: Path) -> int:
    from pipeline.datasets import read_source
    from pipeline.datasets.prepare import group_samples, split_by_patient

    source = read_source(folder / "set.json")
    split_by_patient(source.samples)
    for group in group_samples(source):
        for sample in group.samples:
            sample.load()
    return 0


_TAKERS: dict[str, Callable[[Path, str, Path], int]] = {
    "dicom-series": _take_folder,
    "zip": _take_upload,
    "release": _take_release,
    "rle": _take_rle,
    "edits": _take_edits,
    "coco": _take_coco,
}
#: What an InputError is about, where it is no file of the input.
NO_PATHS = ("edits", "coco")
