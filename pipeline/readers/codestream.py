"""The size that a compressed picture gives of itself, and how often its decoder goes over it.

A file may say another size outside, or none, and a decoder makes room for the one inside.
"""

from __future__ import annotations

import mmap
import re
import struct

_JPEG, _JPEG_2000 = b"\xff\xd8\xff", b"\xff\x4f\xff\x51"
#: Frame headers: all of JPEG but the markers between them that are none, and JPEG-LS' own.
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}
_START_OF_SCAN = re.compile(rb"\xff\xda")
#: Pixels that a decoder may go over, all scans together: 13 scans of the largest image. Most have ten.
_MOST_PASSES = 2_000_000_000


def stated_size(stream: bytes) -> tuple[int, int, int] | None:
    """(width, height, channels) of a JPEG, JPEG-LS or JPEG 2000 stream; None where it does not begin as one."""
    if stream.startswith(_JPEG):
        return _size_of_jpeg(stream)
    start = stream.find(_JPEG_2000)
    if start < 0 or len(stream) < start + 42:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", stream, start + 8)
    return right - left, bottom - top, struct.unpack_from(">H", stream, start + 40)[0]


def goes_over_too_often(stream: bytes | mmap.mmap, pixels: int) -> bool:
    """Whether a JPEG's scans are so many that a small file takes minutes."""
    return sum(1 for _ in _START_OF_SCAN.finditer(stream)) * pixels > _MOST_PASSES


def _size_of_jpeg(stream: bytes) -> tuple[int, int, int] | None:
    place = 2
    while place + 10 <= len(stream) and stream[place] == 0xFF:
        marker = stream[place + 1]
        if marker in _FRAMES:
            height, width, channels = struct.unpack_from(">HHB", stream, place + 5)
            return width, height, channels
        if marker == 0xDA:
            return None
        if marker == 0xFF:  # filling
            place += 1
        elif marker in _NO_LENGTH:
            place += 2
        else:
            place += 2 + struct.unpack_from(">H", stream, place + 2)[0]
    return None
