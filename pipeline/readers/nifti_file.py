"""What slices and volumes in NIfTI files have in common: the header without its extensions, and the voxels after it."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from pipeline.errors import InputError
from pipeline.readers.content import DAMAGE, damaged
from pipeline.readers.voxels import read_stored

MM_PER_UNIT = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}
BROKEN = (*DAMAGE, HeaderDataError, ImageFileError, WrapStructError)
_CHUNK = 1 << 20
#: Where voxels may begin at the latest. Before them nothing but a header's extensions lies.
_MAX_OFFSET = 64 << 20
#: What may follow the voxels. A small zipped file could hold any length of zeros.
_MAX_REST = 64 << 20


def open_file(path: Path) -> IO[bytes]:
    """The bytes of a file, unzipped where they are zipped."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if zipped else path.open("rb")


def read_header(stream: IO[bytes]) -> nibabel.Nifti1Header:
    """The header of an open file, without its extensions, which can be of any length and name a patient."""
    second = b"\x02" in stream.read(4)  # 540, the length of NIfTI-2's header, is 0x21c; NIfTI-1's is 0x15c
    stream.seek(0)
    kind = nibabel.Nifti2Header if second else nibabel.Nifti1Header
    return kind(stream.read(kind.template_dtype.itemsize), check=False)


def without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    """Lengths without the ones after the third."""
    shape = tuple(int(length) for length in shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def check_type(path: Path, header: nibabel.Nifti1Header) -> None:
    """Refuse voxels that are neither numbers nor colours."""
    if header.get_data_dtype().kind not in "iufV":
        raise InputError(path, "complex numbers", "real numbers or RGB colours")


def scaling(header: nibabel.Nifti1Header) -> tuple[float, float]:
    """Slope and intercept that make values of what is stored."""
    slope, intercept = header.get_slope_inter()
    return 1.0 if slope is None else float(slope), float(intercept or 0.0)


def stored_voxels(path: Path, stream: IO[bytes], header: nibabel.Nifti1Header, shape: Sequence[int]) -> np.ndarray:
    """The voxels as they are stored, first axis fastest, in memory or of many in a temporary file.

    Raises
    ------
    InputError
        Where the file ends before the last one, or goes on far behind it.
    """
    offset = header.get_data_offset()
    if not 0 < offset <= _MAX_OFFSET:
        raise damaged(path, "NIfTI")
    stream.seek(offset)
    stored = read_stored(path, stream, shape, header.get_data_dtype(), "NIfTI")
    for _ in range(_MAX_REST // _CHUNK):  # gzip compares its checksum at the end of the file
        if not stream.read(_CHUNK):
            return stored
    raise damaged(path, "NIfTI")
