"""MetaImage volumes, .mha and .mhd.

The format is a page long; ITK, which reads it, is 50 MB of C++ that a damaged file can bring down with the process.
"""

from __future__ import annotations

import io
import math
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from pipeline.errors import InputError
from pipeline.grid import Grid
from pipeline.readers.beside import file_beside
from pipeline.readers.content import DAMAGE, damaged
from pipeline.readers.volume import Volume, no_spacing
from pipeline.readers.voxels import check_shape, grey_voxels, read_stored

_KIND = "MetaImage"
_MAX_HEADER = 1 << 20
_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_LOCAL = ("local", "LOCAL", "Local")
#: The header's last line says where the voxels are.
_LAST = "ElementDataFile"


def read(path: Path, window: tuple[float, float] | None = None) -> Volume:
    """A volume in a file of its own (.mha) or beside its header (.mhd); raw or zlib.

    Tags as ITK reads them (https://itk.org/Wiki/ITK/MetaIO/Documentation): the rows of TransformMatrix are the
    directions of the axes, in a space whose axes run to the patient's left, back and head.
    """
    try:
        with path.open("rb") as file:
            header = _header(path, file)
            if header[_LAST] in _LOCAL:
                return _read(path, header, file, window)
            with file_beside(path, header[_LAST]).open("rb") as beside:
                return _read(path, header, beside, window)
    except InputError:
        raise
    except DAMAGE:
        raise damaged(path, _KIND) from None


def _header(path: Path, file: IO[bytes]) -> dict[str, str]:
    """Tags and their values; the file is left at the first byte after them."""
    header: dict[str, str] = {}
    while _LAST not in header and file.tell() < _MAX_HEADER:
        tag, equals, value = file.readline(_MAX_HEADER).decode("latin-1").partition("=")
        if not equals:
            raise damaged(path, _KIND)
        header[tag.strip()] = value.strip()
    return header


def _read(path: Path, header: dict[str, str], file: IO[bytes], window: tuple[float, float] | None) -> Volume:
    shape = tuple(int(length) for length in header["DimSize"].split())
    if len(shape) != int(header["NDims"]):
        raise damaged(path, _KIND)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    check_shape(path, (*shape, 1) if len(shape) == 2 else shape)
    channels = int(header.get("ElementNumberOfChannels", 1))
    type_name = header["ElementType"].removesuffix("_ARRAY")
    if type_name not in _TYPES or _yes(header, "BinaryData", "True") is False:
        raise InputError(
            path, f"MetaImage of type {type_name[:20]!r}", "whole numbers, MET_FLOAT or MET_DOUBLE, binary"
        )
    if channels not in (1, 3) or (channels == 3 and type_name != "MET_UCHAR"):
        raise InputError(path, f"{channels} channels of type {type_name}", "grey, or MET_UCHAR colours")
    big = _yes(header, "BinaryDataByteOrderMSB", "False") or _yes(header, "ElementByteOrderMSB", "False")
    dtype = np.dtype(_TYPES[type_name]).newbyteorder(">" if big else "<")

    all_lengths = (channels, *shape) if channels > 1 else shape
    skip = int(header.get("HeaderSize", 0))
    if skip < 0:
        file.seek(-dtype.itemsize * math.prod(all_lengths), io.SEEK_END)
    elif skip:
        file.seek(skip)
    if _yes(header, "CompressedData", "False"):
        file = io.BufferedReader(_Inflated(file))
    stored = read_stored(path, file, all_lengths, dtype, _KIND)
    grid = Grid.of_affine(shape, _affine(header, int(header["NDims"])))
    if channels > 1:
        return Volume(np.moveaxis(stored, 0, -1), grid, tuple(no_spacing(grid)))
    grey, notes = grey_voxels(path, stored, window=window)
    return Volume(grey, grid, (*no_spacing(grid), *notes))


def _affine(header: dict[str, str], dimension: int) -> np.ndarray:
    def numbers(*tags: str, default: list[float]) -> np.ndarray:
        text = next((header[tag] for tag in tags if tag in header), None)
        return np.asarray(default if text is None else text.split(), np.float64)

    spacing = numbers("ElementSpacing", "ElementSize", default=[1.0] * dimension)[:3]
    origin = numbers("Offset", "Position", "Origin", default=[0.0] * dimension)[:3]
    matrix = numbers("TransformMatrix", "Rotation", "Orientation", default=np.eye(dimension).ravel().tolist())
    affine = np.eye(4)
    affine[:3, :3] = matrix.reshape(dimension, dimension)[:3, :3].T * spacing
    affine[:3, 3] = origin
    return np.diag([-1, -1, 1, 1]) @ affine


def _yes(header: dict[str, str], tag: str, default: str) -> bool:
    return header.get(tag, default).lower() in ("true", "t", "1")


class _Inflated(io.RawIOBase):
    """What a zlib stream holds, a piece at a time."""

    def __init__(self, file: IO[bytes]):
        self._file, self._zlib = file, zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # zlib or gzip

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        wanted = len(buffer)
        while not self._zlib.eof:
            data = self._zlib.unconsumed_tail or self._file.read(1 << 16)
            piece = self._zlib.decompress(data, wanted)
            if piece:
                buffer[: len(piece)] = piece
                return len(piece)
            if not data:
                break
        return 0
