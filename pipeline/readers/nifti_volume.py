"""NIfTI volumes, through nibabel's headers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import IO

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from pipeline.errors import InputError
from pipeline.grid import Grid
from pipeline.readers.content import DAMAGE, damaged
from pipeline.readers.nifti import MM_PER_UNIT, open_file, patient_axes, read_header
from pipeline.readers.volume import Volume, no_spacing
from pipeline.readers.voxels import check_shape, grey_voxels, read_stored
from pipeline.scan import quiet

_CHUNK = 1 << 20
#: Where voxels may begin at the latest. Before them nothing but a header's extensions lies.
_MAX_OFFSET = 64 << 20
#: What may follow the voxels. A small zipped file could hold any length of zeros.
_MAX_REST = 64 << 20


def read(path: Path, window: tuple[float, float] | None = None) -> Volume:
    """A 3-D image, whatever the order of its voxels; colours as they are."""
    try:
        with open_file(path) as stream:
            return _read(path, stream, window)
    except InputError:
        raise
    except (*DAMAGE, HeaderDataError, ImageFileError, WrapStructError):
        raise damaged(path, "NIfTI") from None


def shape_of(path: Path) -> tuple[int, ...]:
    """The lengths that the header gives, without ones at the end; () of a file that can't be read."""
    try:
        with quiet(), open_file(path) as stream:
            return _without_ones(read_header(stream).get_data_shape())
    except (*DAMAGE, HeaderDataError, ImageFileError, WrapStructError):
        return ()


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    shape = tuple(int(length) for length in shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _read(path: Path, stream: IO[bytes], window: tuple[float, float] | None) -> Volume:
    header = read_header(stream)
    shape = _without_ones(header.get_data_shape())
    check_shape(path, (*shape, 1) if len(shape) == 2 else shape)
    dtype = header.get_data_dtype()
    if dtype.kind not in "iufV":
        raise InputError(path, "complex numbers", "real numbers or RGB colours")
    offset = header.get_data_offset()
    if not 0 < offset <= _MAX_OFFSET:
        raise damaged(path, "NIfTI")
    stream.seek(offset)
    stored = read_stored(path, stream, shape, dtype, "NIfTI")
    for _ in range(_MAX_REST // _CHUNK):  # gzip compares its checksum at the end of the file
        if not stream.read(_CHUNK):
            break
    else:
        raise damaged(path, "NIfTI")
    grid, notes = _grid(shape, header)
    if dtype.names:
        colours = np.stack([stored[channel] for channel in "RGB"], axis=-1)
        return Volume(colours, grid, tuple(notes))
    slope, intercept = header.get_slope_inter()
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    grey, more = grey_voxels(path, stored, slope, intercept, window)
    return Volume(grey, grid, (*notes, *more))


def _grid(shape: tuple[int, int, int], header: nibabel.Nifti1Header) -> tuple[Grid, list[str]]:
    affine = header.get_best_affine()
    unit = MM_PER_UNIT[header.get_xyzt_units()[0]]
    grid = Grid.of_affine(shape, affine)
    spacing = grid.spacing_mm and tuple(mm * unit for mm in grid.spacing_mm)
    grid = replace(grid, directions=patient_axes(affine), spacing_mm=spacing, header=header)
    return grid, no_spacing(grid)
