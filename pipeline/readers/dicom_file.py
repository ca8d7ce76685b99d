"""Opening DICOM files: what lies deflated in one is measured before pydicom unpacks all of it at once."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import DeflatedExplicitVRLittleEndian

from pipeline.errors import InputError
from pipeline.readers.codestream import goes_over_too_often, stated_size
from pipeline.readers.content import MAX_PIXELS, check_size, damaged

#: The longest group 2 of a file that is looked into, and what may come out of a deflated data set.
_MOST_META, _MOST_INFLATED = 1 << 16, 256 << 20
_CHUNK = 1 << 20
#: Representations of values whose length takes four bytes.
_LONG = (b"OB", b"OW", b"UN", b"UT", b"UC", b"UR", b"OD", b"OF", b"OL", b"OV", b"SQ", b"SV", b"UV")
_PIXEL_DATA = 0x7FE00010


def open_dicom(path: Path, **options) -> Dataset:
    """`pydicom.dcmread(path, force=True, **options)`.

    Raises
    ------
    InputError
        For a small file that would unpack to much.
    pydicom's and python's own
        Where it is damaged: `pipeline.readers.dicom.BROKEN`.
    """
    with path.open("rb") as file:
        head = file.read(_MOST_META)
        if is_deflated(head):
            _check_deflated(path, head, file)
    return dcmread(path, force=True, **options)


def is_deflated(head: bytes) -> bool:
    """Whether a file that begins so says that what follows its group 2 is deflated."""
    return DeflatedExplicitVRLittleEndian.encode() in head


def check_codestream(path: Path, header: Dataset, frame: bytes) -> None:
    """Refuse a compressed frame that is larger than its data set says, or takes a decoder minutes.

    Raises
    ------
    ValueError
        Where it is damaged.
    """
    found = stated_size(frame)
    if found is None:
        raise ValueError("no size in the codestream")
    width, height, channels = found
    check_size(path, width, height)
    if width * height * channels > MAX_PIXELS:
        # decoders hold four bytes a value and more
        expected = f"at most {MAX_PIXELS // 10**6} million values"
        raise InputError(path, f"a compressed image of {width}x{height} pixels in {channels} channels", expected)
    if (width, height) != (header.Columns, header.Rows) or goes_over_too_often(frame, width * height):
        raise damaged(path, "DICOM")


def encapsulated_frames(path: Path, count: int) -> Iterator[bytes]:
    """The compressed frames of a file, one at a time."""
    with path.open("rb") as file:
        dataset = dcmread(file, force=True, stop_before_pixels=True)
        order = "<" if dataset.original_encoding[1] else ">"
        group, element = struct.unpack(f"{order}HH", file.read(4))
        if group << 16 | element != _PIXEL_DATA:
            raise ValueError("no pixels after the header")
        file.seek(4 if dataset.original_encoding[0] else 8, 1)
        yield from generate_frames(file, number_of_frames=count)


def _check_deflated(path: Path, head: bytes, file) -> None:
    start = _end_of_meta(head)
    if start is None:
        raise damaged(path, "DICOM")
    file.seek(start)
    unpack, length = zlib.decompressobj(-zlib.MAX_WBITS), 0
    data = file.read(_CHUNK)
    while data and not unpack.eof:
        length += len(unpack.decompress(data, _CHUNK))
        if length > _MOST_INFLATED:
            most = f"at most {_MOST_INFLATED >> 20} MiB of it"
            raise InputError(path, "a deflated DICOM file that holds far more than it seems to", most)
        data = unpack.unconsumed_tail or file.read(_CHUNK)


def _end_of_meta(head: bytes) -> int | None:
    """Where group 2, which is never deflated, ends; None where it is not written as the standard asks."""
    place = 132
    while place + 12 <= len(head):
        group, _, kind, length = struct.unpack_from("<HH2sH", head, place)
        if group != 2:
            return place
        if kind in _LONG:
            place += 12 + struct.unpack_from("<I", head, place + 8)[0]
        elif kind.isalpha() and kind.isupper():
            place += 8 + length
        else:
            return None
    return None
