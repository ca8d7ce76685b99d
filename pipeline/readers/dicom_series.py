"""A folder of DICOM slices: one volume, in the order of their positions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset

from pipeline.errors import InputError
from pipeline.grid import AXES, Grid
from pipeline.readers.content import check_size, damaged, is_dicom_file
from pipeline.readers.dicom import (
    BROKEN,
    decode,
    grey_display,
    has_window,
    lift_functional_groups,
    numbers,
    physical_range,
    spacing_mm,
)
from pipeline.readers.dicom_file import open_dicom
from pipeline.readers.volume import Volume, no_spacing
from pipeline.readers.voxels import check_shape
from pipeline.scan import quiet
from pipeline.scratch import scratch_array

_TAGS = [
    *("SeriesInstanceUID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing"),
]
_ONE_SERIES = "the slices of one series in a folder of their own"
#: Slices closer than this lie at one position, mm.
_SAME_PLACE = 1e-3
#: How far a gap may be from a whole number of slices and still count as slices that are missing.
_WHOLE = 0.15
#: How far a gap may be from the others before the slices count as unevenly spaced.
_UNEVEN = 0.05
#: Runs of missing slices that a note lists.
_LISTED = 20
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class SliceHeader:
    """What the header of a single slice says of its place: `position` in mm, `directions` of a row and of a column."""

    path: Path
    series: str
    shape: tuple[int, int]
    position: np.ndarray | None
    directions: np.ndarray | None
    spacing_mm: tuple[float, float] | None

    @property
    def normal(self) -> np.ndarray:
        return np.cross(*self.directions)


def slice_headers(folder: Path, pass_over_broken: bool = False) -> list[SliceHeader]:
    """Of each DICOM file of a folder that holds one image, in the order of names; others are passed over."""
    found = []
    for path in dicom_files(folder):
        try:
            header = open_dicom(path, stop_before_pixels=True, specific_tags=_TAGS)
            if int(header.get("NumberOfFrames") or 1) == 1 and "Rows" in header:
                found.append(_slice_header(path, header))
        except BROKEN as error:  # an InputError is one, too
            if not pass_over_broken:
                raise error if isinstance(error, InputError) else damaged(path, "DICOM") from None
    return found


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files of a folder, but no hidden ones and no DICOMDIR, which lists images and holds none."""
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and is_dicom_file(path)]


def slices_of_volume(folder: Path) -> list[Path]:
    """The DICOM files of one image each in a folder where two of one series lie at different positions.

    Of any other folder none: its files are a collection of single images.
    """
    first: dict[str, np.ndarray] = {}
    with quiet():
        headers = slice_headers(folder, pass_over_broken=True)
    for header in headers:
        if header.position is not None:
            before = first.setdefault(header.series, header.position)
            if np.abs(header.position - before).max() > _SAME_PLACE:
                return [header.path for header in headers]
    return []


def read(folder: Path, window: tuple[float, float] | None = None) -> Volume:
    """The slices of a series as a volume: voxels run along a row, down the rows, and along the series.

    All slices are windowed alike: by `window` (centre, width), or else as the file of the middle one says, or else
    between the least and the largest value of all. Where single slices are missing, copies of their neighbours stand in
    for them, so that everything keeps its place.

    Raises
    ------
    InputError
        Where the files are not the slices of one volume. No sentence quotes a header.
    """
    headers = _one_series(folder, slice_headers(folder))
    rows, columns = headers[0].shape
    check_shape(folder, (columns, rows, len(headers)))
    placement = place_slices(folder, headers, _same_pixels)
    shape = columns, rows, len(placement.slots)
    check_shape(folder, shape)
    grid = Grid.of_affine(shape, LPS_TO_RAS @ placement.affine)
    voxels = scratch_array(folder, shape[::-1], np.uint8)
    used = list(dict.fromkeys(placement.slots))
    for number, grey in zip(used, _grey_slices([headers[number] for number in used], window), strict=True):
        voxels[[slot for slot, source in enumerate(placement.slots) if source == number]] = grey
    return Volume(voxels.transpose(2, 1, 0), grid, (*placement.notes(grid), *no_spacing(grid)))


@dataclass(frozen=True, eq=False)
class Placement:
    """How slices become an even volume.

    Attributes
    ----------
    slots : for each slice of the volume the number of the image it is made of, as they were given
    missing : slots that a neighbour stands in for
    affine : voxel (along a row, down the rows, along the series) -> mm to the patient's left, back and head
    copies : images that were there twice
    gaps_mm : least, mean and largest distance of two slices where they are uneven
    """

    slots: list[int]
    missing: list[int]
    affine: np.ndarray
    copies: int
    gaps_mm: tuple[float, float, float] | None

    def notes(self, grid: Grid) -> list[str]:
        """What a person should know."""
        found = []
        if self.copies:
            found.append(f"{_are(self.copies)} there twice; each was taken once")
        if self.missing:
            found.append(self._missing(grid))
        if self.gaps_mm:
            least, mean, largest = self.gaps_mm
            found.append(f"slices lie {least:.3g} to {largest:.3g} mm apart; {mean:.3g} mm is taken for all")
        return found

    def _missing(self, grid: Grid) -> str:
        axis, sign = grid.directions[2]
        count = len(self.slots)
        runs: list[list[int]] = []
        for number in sorted(count - slot if sign < 0 else slot + 1 for slot in self.missing):
            if runs and runs[-1][1] == number - 1:
                runs[-1][1] = number
            else:
                runs.append([number, number])
        listed = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs[:_LISTED])
        more = " and others" if len(runs) > _LISTED else ""
        return (
            f"{_are(len(self.missing))} missing (counted from {AXES[axis]}: {listed}{more} of {count}); "
            "copies of the neighbours stand in"
        )


def _are(count: int) -> str:
    return "1 slice is" if count == 1 else f"{count} slices are"


def place_slices(path: Path, headers: Sequence[SliceHeader], same_pixels: Callable[[int, int], bool]) -> Placement:
    """Put slices of one size and direction in order.

    Parameters
    ----------
    same_pixels
        Whether two images at the same position, by their numbers in `headers`, are the same.

    Raises
    ------
    InputError
        Where different images lie at one position, or all do.
    """
    places = np.array([header.position @ headers[0].normal for header in headers])
    order, copies = _once(path, places, lambda one, other: same_pixels(headers[one], headers[other]))
    gaps = np.diff(places[order])
    usual = float(np.median(gaps[gaps < 1.2 * gaps.min()]))
    counts = np.rint(gaps / usual).astype(int)
    fillable = (np.abs(gaps / usual - counts) < _WHOLE).all() and counts.sum() <= 2 * len(order)
    if not fillable:
        counts = np.ones(len(gaps), int)
    slots, missing = [order[0]], []
    for number, count in enumerate(counts.tolist()):
        missing += range(len(slots), len(slots) + count - 1)
        slots += [order[number]] * (count // 2) + [order[number + 1]] * (count - count // 2)
    uneven = np.abs(gaps / counts / (gaps.sum() / counts.sum()) - 1).max() > _UNEVEN
    first, last = headers[order[0]], headers[order[-1]]
    affine = _affine(first, (last.position - first.position) / counts.sum())
    return Placement(slots, missing, affine, copies, (gaps.min(), gaps.mean(), gaps.max()) if uneven else None)


def _once(path: Path, places: np.ndarray, same: Callable[[int, int], bool]) -> tuple[list[int], int]:
    """Numbers of the images in the order of their places, one a place, and how many more were the same again."""
    order = np.argsort(places, kind="stable").tolist()
    kept, differing, copies = order[:1], 0, 0
    for number in order[1:]:
        if places[number] - places[kept[-1]] > _SAME_PLACE:
            kept.append(number)
        elif same(kept[-1], number):
            copies += 1
        else:
            differing += 1
    if len(kept) < 2:
        raise InputError(path, "slices that all lie at one position", "two positions or more")
    if differing:
        found = f"{differing} more slices than positions, with other pixels, such as phases or echoes"
        raise InputError(path, found, "one slice a position: one phase or echo in a folder of its own")
    return kept, copies


def _slice_header(path: Path, header: Dataset) -> SliceHeader:
    position, directions = numbers(header, "ImagePositionPatient", 3), numbers(header, "ImageOrientationPatient", 6)
    placed = position is not None and directions is not None
    directions = np.reshape(directions, (2, 3)) if placed else None
    if placed and not np.allclose(directions @ directions.T, np.eye(2), atol=1e-3):
        placed, directions = False, None
    return SliceHeader(
        path=path,
        series=str(header.get("SeriesInstanceUID", "")),
        shape=(int(header.Rows), int(header.Columns)),
        position=np.array(position) if placed else None,
        directions=directions,
        spacing_mm=spacing_mm(header),
    )


def _one_series(folder: Path, headers: list[SliceHeader]) -> list[SliceHeader]:
    if not headers:
        raise InputError(folder, "a folder without DICOM slices", _ONE_SERIES)
    lengths = sorted(Counter(header.series for header in headers).values(), reverse=True)
    if len(lengths) > 1:
        listed = ", ".join(map(str, lengths[:-1])) + f" and {lengths[-1]}"
        raise InputError(folder, f"{len(lengths)} series, of {listed} slices", _ONE_SERIES)
    if len(headers) == 1:
        raise InputError(folder, "a series of one slice", "two slices or more; one alone is an image")
    unplaced = sum(header.position is None for header in headers)
    if unplaced:
        raise InputError(folder, f"{unplaced} of {len(headers)} slices without a position", "a position in each slice")
    if len({header.shape for header in headers}) > 1:
        raise InputError(folder, "slices of different sizes in one series", _ONE_SERIES)
    normals = np.array([header.normal for header in headers])
    if (normals @ normals[0] < 1 - 1e-3).any() or len({_rounded(header.spacing_mm) for header in headers}) > 1:
        raise InputError(folder, "slices of different directions or pixel spacings in one series", _ONE_SERIES)
    check_size(headers[0].path, *headers[0].shape[::-1])
    return headers


def _rounded(spacing: tuple[float, float] | None) -> tuple[float, ...] | None:
    return spacing and tuple(round(mm, 3) for mm in spacing)


def _same_pixels(one: SliceHeader, other: SliceHeader) -> bool:
    def pixels(path: Path) -> tuple:
        dataset = open_dicom(path)
        keywords = ("PixelData", "FloatPixelData", "DoubleFloatPixelData", "RescaleSlope", "RescaleIntercept")
        return tuple(dataset.get(keyword) for keyword in keywords)

    try:
        return pixels(one.path) == pixels(other.path)
    except InputError:
        raise
    except BROKEN:
        raise damaged(other.path, "DICOM") from None


def _affine(first: SliceHeader, step: np.ndarray) -> np.ndarray:
    row_mm, column_mm = first.spacing_mm or (0.0, 0.0)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = first.directions[0] * column_mm, first.directions[1] * row_mm
    affine[:3, 2], affine[:3, 3] = step, first.position
    return affine


def _grey_slices(headers: list[SliceHeader], window: tuple[float, float] | None) -> Iterator[np.ndarray]:
    """uint8 (H, W), slice by slice."""
    middle = _open(headers[len(headers) // 2].path)[0]
    # the window of one slice shows all: what the middle one says is about what a person would choose
    voi = {name: middle[name] for name in ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence")
           if name in middle}  # fmt: skip
    eight_bits = middle.get("BitsAllocated") == 8 and not {"RescaleSlope", "ModalityLUTSequence"} & set(middle.dir())
    extremes = None
    if window is None and not has_window(middle):
        ranges = [(0.0, 255.0)] if eight_bits else [physical_range(h.path, *_open(h.path)) for h in headers]
        extremes = min(low for low, _ in ranges), max(high for _, high in ranges)
    for header in headers:
        dataset, stored = _open(header.path)
        for name in ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"):
            if name in dataset:
                del dataset[name]
        for name, element in voi.items():
            dataset[name] = element
        if stored.shape != headers[0].shape or not math.isfinite(float(stored.max()) - float(stored.min())):
            raise damaged(header.path, "DICOM")
        yield grey_display(dataset, extremes, window)(stored)


def _open(path: Path) -> tuple[Dataset, np.ndarray]:
    try:
        dataset = open_dicom(path)
        lift_functional_groups(dataset)
        stored, photometric = decode(path, dataset)
    except InputError:
        raise
    except BROKEN:
        raise damaged(path, "DICOM") from None
    if stored.ndim != 2 or photometric == "PALETTE COLOR":
        raise InputError(path, "a slice in colours", "a series of grey slices")
    return dataset, stored
