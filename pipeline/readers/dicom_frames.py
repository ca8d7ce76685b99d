"""DICOM files of several frames: an enhanced volume where each frame has a position, else a video."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.pixels import iter_pixels
from pydicom.uid import RLELossless

from pipeline.errors import InputError
from pipeline.grid import Grid
from pipeline.readers.content import check_size, damaged
from pipeline.readers.dicom import (
    BROKEN,
    CODESTREAMS,
    first_number,
    grey_display,
    has_window,
    lift_functional_groups,
    numbers,
    palette_display,
    physical_range,
    spacing_mm,
)
from pipeline.readers.dicom_file import check_codestream, encapsulated_frames, open_dicom
from pipeline.readers.dicom_series import LPS_TO_RAS, SliceHeader, place_slices
from pipeline.readers.movie import Movie, check_length, gather
from pipeline.readers.volume import Volume, no_spacing
from pipeline.readers.voxels import check_shape
from pipeline.scan import quiet
from pipeline.scratch import scratch_array


def frame_count(path: Path) -> int:
    """Frames of a DICOM file; 0 of one that can't be read."""
    with quiet():
        try:
            header = open_dicom(path, stop_before_pixels=True, specific_tags=["NumberOfFrames", "Rows"])
            return int(header.get("NumberOfFrames") or 1) if "Rows" in header else 0
        except (*BROKEN, InputError):
            return 0


def read(path: Path, window: tuple[float, float] | None = None) -> Volume | Movie:
    """A DICOM file of several frames.

    With a position in each frame (enhanced CT and MR) it is a volume, sorted by position; else a video, whose time
    between frames is FrameTime, or else 1 / CineRate. Grey is windowed as the file says; 8 bits without a window are
    taken as they are, more go from the least value of all frames to the largest.
    """
    try:
        header = open_dicom(path, stop_before_pixels=True)
        rows, columns = int(header.Rows), int(header.Columns)
        count = int(header.get("NumberOfFrames") or 1)
        check_size(path, columns, rows)
        if count < 2:
            raise InputError(path, "a DICOM file of one image", "several frames, or the folder of its whole series")
        placed = _placed(path, header)
        lift_functional_groups(header)
        if header.file_meta.get("TransferSyntaxUID") in CODESTREAMS:
            for frame in encapsulated_frames(path, count):
                check_codestream(path, header, frame)
        if placed is None:
            check_length(path, count, rows, columns)
            frames = gather(path, _shown(path, header, count, window))
            return Movie(frames, _frame_seconds(header), spacing_mm(header) or _ultrasound_mm(header))
        return _volume(path, header, placed, window)
    except InputError:
        raise
    except BROKEN:
        raise damaged(path, "DICOM") from None


def _placed(path: Path, header: Dataset) -> list[SliceHeader] | None:
    """Place of each frame; None where they have none, or all the same."""
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    found = []
    for own in header.get("PerFrameFunctionalGroupsSequence") or ():
        item = Dataset()
        for macro in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
            for part in (own.get(macro) or shared.get(macro) or ())[:1]:
                item.update(part)
        position, directions = numbers(item, "ImagePositionPatient", 3), numbers(item, "ImageOrientationPatient", 6)
        if position is None or directions is None:
            return None
        shape = int(header.Rows), int(header.Columns)
        found.append(SliceHeader(path, "", shape, np.array(position), np.reshape(directions, (2, 3)), spacing_mm(item)))
    if len(found) != int(header.get("NumberOfFrames") or 1):
        return None
    moved = max(float(np.abs(place.position - found[0].position).max()) for place in found)
    return found if moved > 0 else None


def _volume(path: Path, header: Dataset, placed: list[SliceHeader], window: tuple[float, float] | None) -> Volume:
    series = place_slices(path, placed, lambda *_: False)
    rows, columns = placed[0].shape
    check_shape(path, (columns, rows, len(series.slots)))
    grid = Grid.of_affine((columns, rows, len(series.slots)), LPS_TO_RAS @ series.affine)
    voxels = scratch_array(path, (len(series.slots), rows, columns), np.uint8)
    slots_of: dict[int, list[int]] = {}
    for slot, source in enumerate(series.slots):
        slots_of.setdefault(source, []).append(slot)
    for number, frame in enumerate(_shown(path, header, len(placed), window)):
        if frame.ndim != 2:
            raise InputError(path, "a volume in colours", "grey frames")
        voxels[slots_of[number]] = frame
    return Volume(voxels.transpose(2, 1, 0), grid, (*series.notes(grid), *no_spacing(grid)))


def _shown(path: Path, header: Dataset, count: int, window: tuple[float, float] | None) -> Iterator[np.ndarray]:
    """uint8 (H, W) or (H, W, 3), frame by frame: one at a time is decoded."""
    photometric = str(header.get("PhotometricInterpretation"))
    if int(header.get("SamplesPerPixel") or 1) == 3:
        shift = max(0, int(header.get("BitsStored") or 8) - 8)
        for frame in _decoded(path, header, count):
            yield frame if frame.dtype == np.uint8 else (frame >> shift).astype(np.uint8)
        return
    if photometric == "PALETTE COLOR":
        show = palette_display(header)
    elif window is None and not has_window(header):
        if header.get("BitsAllocated") == 8:
            extremes = 0.0, 255.0
        else:
            ranges = [physical_range(path, header, frame) for frame in _decoded(path, header, count)]
            extremes = min(low for low, _ in ranges), max(high for _, high in ranges)
        show = grey_display(header, extremes)
    else:
        show = grey_display(header, None, window)
    for frame in _decoded(path, header, count):
        yield show(frame)


def _decoded(path: Path, header: Dataset, count: int) -> Iterator[np.ndarray]:
    # on damaged runs pylibjpeg's RLE decoder panics, which no `except Exception` would stop
    plugin = "pydicom" if header.file_meta.get("TransferSyntaxUID") == RLELossless else ""
    done = 0
    for frame in iter_pixels(path, decoding_plugin=plugin):
        if frame.shape[:2] != (header.Rows, header.Columns):
            raise damaged(path, "DICOM")
        yield frame
        done += 1
    if done != count:
        raise damaged(path, "DICOM")


def _frame_seconds(header: Dataset) -> float | None:
    milliseconds = first_number(header.get("FrameTime"))
    if milliseconds is None:
        times = header.get("FrameTimeVector")
        milliseconds = first_number(times[1]) if hasattr(times, "__len__") and len(times) > 1 else None
    if milliseconds:
        return milliseconds / 1000 if milliseconds > 0 else None
    rate = first_number(header.get("CineRate")) or first_number(header.get("RecommendedDisplayFrameRate"))
    return 1 / rate if rate and rate > 0 else None


def _ultrasound_mm(header: Dataset) -> tuple[float, float] | None:
    """(row, column) spacing of an ultrasound image whose regions, measured in cm, all have the same."""
    found = set()
    for region in header.get("SequenceOfUltrasoundRegions") or ():
        if region.get("PhysicalUnitsXDirection") == region.get("PhysicalUnitsYDirection") == 3:
            row, column = first_number(region.get("PhysicalDeltaY")), first_number(region.get("PhysicalDeltaX"))
            if row and column:
                found.add((abs(row) * 10, abs(column) * 10))
    return found.pop() if len(found) == 1 else None
