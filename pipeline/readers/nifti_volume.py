"""NIfTI volumes, through nibabel's headers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import IO

import nibabel
import numpy as np

from pipeline.errors import InputError
from pipeline.grid import Grid
from pipeline.readers.content import damaged
from pipeline.readers.nifti import patient_axes
from pipeline.readers.nifti_file import (
    BROKEN,
    MM_PER_UNIT,
    check_type,
    open_file,
    read_header,
    scaling,
    stored_voxels,
    without_ones,
)
from pipeline.readers.volume import Volume, no_spacing
from pipeline.readers.voxels import check_shape, grey_voxels
from pipeline.scan import quiet


def read(path: Path, window: tuple[float, float] | None = None) -> Volume:
    """A 3-D image, whatever the order of its voxels; colours as they are."""
    try:
        with open_file(path) as stream:
            return _read(path, stream, window)
    except InputError:
        raise
    except BROKEN:
        raise damaged(path, "NIfTI") from None


def shape_of(path: Path) -> tuple[int, ...]:
    """The lengths that the header gives, without ones at the end; () of a file that can't be read."""
    try:
        with quiet(), open_file(path) as stream:
            return without_ones(read_header(stream).get_data_shape())
    except BROKEN:
        return ()


def _read(path: Path, stream: IO[bytes], window: tuple[float, float] | None) -> Volume:
    header = read_header(stream)
    shape = without_ones(header.get_data_shape())
    check_shape(path, (*shape, 1) if len(shape) == 2 else shape)
    check_type(path, header)
    stored = stored_voxels(path, stream, header, shape)
    grid, notes = _grid(shape, header)
    if stored.dtype.names:
        colours = np.stack([stored[channel] for channel in "RGB"], axis=-1)
        return Volume(colours, grid, tuple(notes))
    grey, more = grey_voxels(path, stored, *scaling(header), window)
    return Volume(grey, grid, (*notes, *more))


def _grid(shape: tuple[int, int, int], header: nibabel.Nifti1Header) -> tuple[Grid, list[str]]:
    affine = header.get_best_affine()
    unit = MM_PER_UNIT[header.get_xyzt_units()[0]]
    grid = Grid.of_affine(shape, affine)
    spacing = grid.spacing_mm and tuple(mm * unit for mm in grid.spacing_mm)
    grid = replace(grid, directions=patient_axes(affine), spacing_mm=spacing, header=header)
    return grid, no_spacing(grid)
