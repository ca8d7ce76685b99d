"""What a file holds, told from its first bytes: names lie."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

from pipeline.errors import InputError

ACCEPTED = "a PNG, JPEG, TIFF, single DICOM or 2-D NIfTI file"

ACCEPTED_STACKS = (
    "a NIfTI, NRRD or MetaImage volume, a folder of DICOM slices or of frames, a DICOM file of several frames, "
    "or an MP4, MOV, AVI, Matroska, WebM or GIF video"
)

#: Largest image that is decoded. 12000x9000 has 108 million pixels. Decoders hold four bytes a pixel and what is read
#: from them takes three, so that a small file which claims this size takes 1.2 GB.
MAX_PIXELS = 150_000_000

#: What the decoders of Pillow, pydicom, nibabel and zlib let escape on damaged files, beside their own exceptions.
DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

#: What a picture inside a folder is known by.
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")

_HEAD_BYTES = 4096
_DICOM_HEAD_BYTES = 136
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_REFUSED = {
    b"%PDF": "a PDF document",
    b"GIF8": "a GIF image",
    b"BM": "a BMP image",
    b"PK\x03\x04": "a ZIP archive",
    b"RIFF": "a WebP image or AVI video",
    b"\x1a\x45\xdf\xa3": "a Matroska video",
    b"\0\0\0\x0cjP  ": "a bare JPEG 2000 image",
}
_VIDEOS = {b"GIF8": "gif", b"\x1a\x45\xdf\xa3": "matroska"}
#: First boxes of an MP4 or MOV file; and the brands of those that hold a still image.
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_STILL_BRANDS = (b"heic", b"heix", b"mif1", b"avif")


def content_of(path: Path) -> str:
    """'picture', 'dicom' or 'nifti'.

    Raises
    ------
    InputError
        For a path that is no readable file, and for a file that holds something else.
    """
    head = _head(path)
    if not head:
        raise InputError(path, "empty file", ACCEPTED)
    if is_dicom(head):
        return "dicom"
    if head.startswith(_PICTURES):
        return "picture"
    if head.startswith(b"\x1f\x8b"):
        head = _inflated(path, head)
        if not _is_nifti(head):
            raise InputError(path, "a gzip file that holds no NIfTI image", ACCEPTED)
    if _is_nifti(head):
        return "nifti"
    raise InputError(path, f"holds {_name(head)}, whatever its name says", ACCEPTED)


def stack_content_of(path: Path) -> str:
    """'nifti', 'nrrd', 'metaimage', 'dicom', 'mp4', 'avi', 'matroska' or 'gif'.

    Raises
    ------
    InputError
        For a path that is no readable file, and for a file that holds something else.
    """
    head = _head(path, ACCEPTED_STACKS)
    if head.startswith(b"NRRD0"):
        return "nrrd"
    if b"DimSize" in head and re.match(rb"\s*[A-Za-z]+\s*=", head):
        return "metaimage"
    for signature, name in _VIDEOS.items():
        if head.startswith(signature):
            return name
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    if head[4:8] in _MP4_BOXES and head[8:12] not in _STILL_BRANDS:
        return "mp4"
    try:
        content = content_of(path)
    except InputError as error:
        if error.expected != ACCEPTED:
            raise
        raise InputError(path, error.problem, ACCEPTED_STACKS) from None
    if content == "picture":
        raise InputError(path, "a single image", ACCEPTED_STACKS)
    return content


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins with `head` (132 bytes are enough) is DICOM.

    Without the preamble that the standard asks for, it must begin as old archives do: with a little-endian element
    of group 2 or 8.
    """
    return head[128:132] == b"DICM" or (head[:2] in (b"\x02\0", b"\x08\0") and head[3:4] == b"\0" and len(head) > 132)


def is_dicom_file(path: Path) -> bool:
    """Whether a path is a file that begins as DICOM does; a DICOMDIR, which lists images and holds none, is not one."""
    try:
        if not path.is_file() or path.name.upper() == "DICOMDIR":
            return False
        with path.open("rb") as stream:
            return is_dicom(stream.read(_DICOM_HEAD_BYTES))
    except OSError:
        return False


def check_size(path: Path, width: int, height: int) -> None:
    """Refuse an image by the size that its header gives, before it is decoded."""
    if width < 1 or height < 1:
        raise InputError(path, f"an image of {width}x{height} pixels", "at least one pixel")
    if width * height > MAX_PIXELS:
        raise InputError(path, f"an image of {width}x{height} pixels", f"at most {MAX_PIXELS // 10**6} million pixels")


def damaged(path: Path, kind: str) -> InputError:
    """The error of a file that begins well and can't be decoded. Says nothing that the file's header holds."""
    return InputError(path, "damaged, cut short, or of an unsupported variant", f"a whole {kind} file")


def _head(path: Path, accepted: str = ACCEPTED) -> bytes:
    try:
        if not path.exists():
            raise InputError(path, "no such file", accepted)
        if path.is_dir():
            raise InputError(path, "a folder", accepted)
        if not path.is_file():
            raise InputError(path, "not a regular file", accepted)
        with path.open("rb") as stream:
            return stream.read(_HEAD_BYTES)
    except PermissionError:
        raise InputError(path, "no permission to read it", "a file that you may read") from None
    except OSError as error:
        raise InputError(path, f"can't be opened ({error.strerror})", accepted) from None


def _inflated(path: Path, head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, _HEAD_BYTES)
    except zlib.error:
        raise damaged(path, "NIfTI (.nii.gz)") from None


def _is_nifti(head: bytes) -> bool:
    if head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c"):  # 348, the length of NIfTI-1's header
        return head[344:348] == b"n+1\0"
    return head[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") and head[4:8] == b"n+2\0"  # 540: NIfTI-2


def _name(head: bytes) -> str:
    for signature, name in _REFUSED.items():
        if head.startswith(signature):
            return name
    if head[344:348] == b"ni1\0" or head[4:8] == b"ni2\0":
        return "the header of a NIfTI pair (.hdr and .img)"
    # a head may end within a character, so the last few bytes don't count
    text = head.decode("utf-8", errors="ignore")
    if b"\0" in head or len(text.encode()) < len(head) - 3:
        return "unknown data"
    if "<svg" in text.lower():
        return "an SVG drawing"
    return "an XML or HTML document" if text.lstrip().startswith("<") else "text"
