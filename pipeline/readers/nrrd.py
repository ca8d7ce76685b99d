"""NRRD volumes: pynrrd reads the header, the voxels are read as those of other volumes."""

from __future__ import annotations

import bz2
import gzip
import io
from pathlib import Path
from typing import IO

import nrrd
import numpy as np
from nrrd import NRRDError

from pipeline.errors import InputError
from pipeline.grid import Grid
from pipeline.readers.beside import file_beside
from pipeline.readers.content import DAMAGE, damaged
from pipeline.readers.volume import Volume, no_spacing
from pipeline.readers.voxels import check_shape, grey_voxels, read_stored

_KIND = "NRRD"
#: A header is text of some lines. One that does not end within this is none.
_MAX_HEADER = 1 << 20
#: Bytes before the voxels of a file that is not NRRD's own, of which a small zipped one could hold any number.
_MAX_SKIP = 64 << 20
_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "signed long long int"), "i8"),
    **dict.fromkeys(("int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
#: What turns a point of the file's space into one of RAS, the space of affines here.
_SPACES = {
    **dict.fromkeys(("right-anterior-superior", "ras"), (1, 1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1, 1, 1)),
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1, -1, 1)),
}
_COLOURS = ("rgb-color", "3-color")
_OPENERS = {
    "raw": lambda stream: stream,
    **dict.fromkeys(("gz", "gzip"), lambda stream: gzip.GzipFile(fileobj=stream)),
    **dict.fromkeys(("bz2", "bzip2"), lambda stream: bz2.BZ2File(stream)),
}


def read(path: Path, window: tuple[float, float] | None = None) -> Volume:
    """A volume in a file of its own (.nrrd) or beside its header (.nhdr); raw, gzip or bzip2.

    Without a space, voxels are taken to run to the right, the front and the head, as NIfTI's would.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_MAX_HEADER)
            file.seek(0)
            header = nrrd.read_header(io.BytesIO(head[: _end_of_header(path, head)]).readlines())
            _check(path, header)
            file.seek(_end_of_header(path, head))
            data_file = header.get("data file", header.get("datafile"))
            if data_file is None:
                return _read(path, header, file, window)
            with file_beside(path, data_file).open("rb") as beside:
                return _read(path, header, beside, window)
    except InputError:
        raise
    except (*DAMAGE, NRRDError):
        raise damaged(path, _KIND) from None


def _end_of_header(path: Path, head: bytes) -> int:
    """Where the first empty line ends, or the whole of a header that stands alone."""
    ends = [head.find(gap) + len(gap) for gap in (b"\n\n", b"\n\r\n") if gap in head]
    if not ends and len(head) == _MAX_HEADER:
        raise damaged(path, _KIND)
    return min(ends, default=len(head))


def _check(path: Path, header: dict) -> None:
    if header["encoding"].lower() not in _OPENERS:
        raise InputError(path, f"NRRD with encoding {header['encoding'][:20]!r}", "raw, gzip or bzip2")
    if header["type"].lower() not in _TYPES:
        raise InputError(path, f"NRRD of type {header['type'][:20]!r}", "whole numbers, float or double")


def _read(path: Path, header: dict, file: IO[bytes], window: tuple[float, float] | None) -> Volume:
    sizes = tuple(int(size) for size in header["sizes"])
    vectors = _vectors(header, len(sizes))
    spatial = [axis for axis in range(len(sizes)) if np.isfinite(vectors[axis]).all()]
    others = [axis for axis in range(len(sizes)) if axis not in spatial]
    colours = len(others) == 1 and header.get("kinds", [""] * len(sizes))[others[0]].lower() in _COLOURS
    if not colours and any(sizes[axis] != 1 for axis in others):
        spatial = range(len(sizes))  # refused below, with all its lengths
    check_shape(path, [sizes[axis] for axis in spatial])
    if colours and sizes[others[0]] != 3:
        raise damaged(path, _KIND)

    lines = int(header.get("line skip", header.get("lineskip", 0)))
    skip = int(header.get("byte skip", header.get("byteskip", 0)))
    if lines > _MAX_HEADER or skip > _MAX_SKIP:
        raise damaged(path, _KIND)
    for _ in range(lines):
        file.readline(_MAX_HEADER)
    opened = _OPENERS[header["encoding"].lower()](file)
    dtype = np.dtype(_TYPES[header["type"].lower()])
    dtype = dtype.newbyteorder(">" if header.get("endian", "little") == "big" else "<")
    if skip < 0:  # raw only: what is at the end
        file.seek(-dtype.itemsize * int(np.prod(sizes, dtype=object)), io.SEEK_END)
    else:
        opened.seek(skip, io.SEEK_CUR)
    stored = np.moveaxis(read_stored(path, opened, sizes, dtype, _KIND), [*spatial, *others], range(len(sizes)))
    shape = tuple(sizes[axis] for axis in spatial)
    grid = Grid.of_affine(shape, _affine(header, vectors[list(spatial)]))
    if colours and dtype == np.uint8:
        return Volume(stored, grid, tuple(no_spacing(grid)))
    if colours:
        raise InputError(path, f"colours of type {dtype.name}", "uint8 colours, or grey")
    grey, notes = grey_voxels(path, stored.reshape(shape, order="F"), window=window)
    return Volume(grey, grid, (*no_spacing(grid), *notes))


def _vectors(header: dict, dimension: int) -> np.ndarray:
    """For each axis the step between voxels in the file's space, float64 (dimension, 3); NaN of axes not in space."""
    vectors = header.get("space directions")
    if vectors is not None:
        rows = [np.full(3, np.nan) if row is None else np.asarray(row, np.float64) for row in vectors]
        return np.reshape(rows, (dimension, 3))
    spacings = np.asarray(header.get("spacings", np.ones(dimension)), np.float64)
    kinds = header.get("kinds", ["space"] * dimension)
    vectors = np.full((dimension, 3), np.nan)
    spatial = [axis for axis in range(dimension) if kinds[axis].lower() in ("space", "domain", "???", "none")]
    for column, axis in enumerate(spatial[:3]):
        step = spacings[axis] if np.isfinite(spacings[axis]) else 1.0
        vectors[axis] = np.eye(3)[column] * step
    return vectors


def _affine(header: dict, vectors: np.ndarray) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = vectors.T
    origin = header.get("space origin")
    if origin is not None and np.isfinite(origin).all():
        affine[:3, 3] = origin
    signs = _SPACES.get(str(header.get("space", "ras")).lower(), (1, 1, 1))
    return np.diag([*signs, 1]) @ affine
