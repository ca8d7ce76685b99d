"""PNG, JPEG and TIFF files, through Pillow."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.errors import InputError
from pipeline.readers.codestream import goes_over_too_often
from pipeline.readers.content import ACCEPTED, DAMAGE, MAX_PIXELS, check_size, damaged
from pipeline.readers.intensity import fill_rgb, row_bands, stretch, value_range
from pipeline.scan import Scan

# Pillow's own guard warns from this number of pixels on and raises from twice of it, for the whole process. Ours
# refuses at the same number, from the header.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS

_DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_EXIF_ORIENTATION = 0x0112
_TIFF_PHOTOMETRIC, _TIFF_SAMPLE_FORMAT = 262, 339
_UNSIGNED = 1


def read(path: Path) -> Scan:
    """Upright RGB pixels of a picture. Transparent pixels lie on black, the background of medical images.

    Grey of 16 or 32 bits and floats go from their least value to 0 and their largest to 255 (a constant image to 0).
    Colour profiles and resolution tags are left aside: neither says anything about a patient's anatomy.
    """
    kind = "PNG, JPEG or TIFF"
    try:
        with Image.open(path, formats=("PNG", "JPEG", "TIFF")) as image:
            check_size(path, *image.size)
            # an MPO is a JPEG with a preview or a second eye's view behind it
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                raise InputError(path, f"{image.n_frames} pages or frames", f"{ACCEPTED}. Save one page first.")
            if image.format in ("JPEG", "MPO"):
                _check_scans(path, image)
            image.load()
            return Scan(path, _upright_rgb(path, image))
    except InputError:
        raise
    except Image.DecompressionBombError:
        expected = f"at most {MAX_PIXELS // 10**6} million pixels"
        raise InputError(path, f"an image of more than {2 * MAX_PIXELS // 10**6} million pixels", expected) from None
    except DAMAGE:
        raise damaged(path, kind) from None


def _check_scans(path: Path, image: Image.Image) -> None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if goes_over_too_often(content, image.width * image.height):
            raise InputError(path, "a JPEG of very many scans", "the same picture saved anew")


def _upright_rgb(path: Path, image: Image.Image) -> np.ndarray:
    orientation = _orientation(image)
    width, height = image.size
    shape = (width, height, 3) if orientation >= 5 else (height, width, 3)
    out = np.empty(shape, np.uint8)
    fill_rgb(_as_stored(out, orientation), _deep_grey(path, image) if image.mode in _DEEP_MODES else _colours(image))
    return out


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation 1..8. Pillow has turned a TIFF by itself when it loaded it; broken EXIF counts as upright."""
    if image.format == "TIFF":
        return 1
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except DAMAGE:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _as_stored(out: np.ndarray, orientation: int) -> np.ndarray:
    """A view of the upright image `out` whose rows and columns are those of the file: no turned copy is needed."""
    match orientation:
        case 2:
            return out[:, ::-1]
        case 3:
            return out[::-1, ::-1]
        case 4:
            return out[::-1]
        case 5:
            return out.swapaxes(0, 1)
        case 6:
            return np.rot90(out, 1)
        case 7:
            return out[::-1, ::-1].swapaxes(0, 1)
        case 8:
            return np.rot90(out, -1)
    return out


def _colours(image: Image.Image):
    """Rows -> uint8 RGB or grey of an image with 8 bits a channel or fewer."""
    width = image.width

    def band(rows: slice) -> np.ndarray:
        part = image.crop((0, rows.start, width, rows.stop))
        if part.has_transparency_data:
            rgba = np.asarray(part.convert("RGBA"))
            return ((rgba[..., :3].astype(np.uint16) * rgba[..., 3:] + 127) // 255).astype(np.uint8)
        return np.asarray(part.convert("L" if part.mode in ("1", "L") else "RGB"))

    return band


def _deep_grey(path: Path, image: Image.Image):
    """Rows -> uint8 grey of an image with more than 8 bits a pixel."""
    width, height = image.size
    tags = getattr(image, "tag_v2", {})
    # Pillow reads unsigned 32 bits as signed, and does not turn over min-is-white beyond 8 bits
    unsigned = image.mode == "I" and image.format == "TIFF" and tags.get(_TIFF_SAMPLE_FORMAT, (1,))[0] == _UNSIGNED
    min_is_white = tags.get(_TIFF_PHOTOMETRIC) == 0

    def values(rows: slice) -> np.ndarray:
        part = np.asarray(image.crop((0, rows.start, width, rows.stop)))
        return part.view(np.uint32) if unsigned else part

    low, high = value_range(path, map(values, row_bands(height, width)))

    def band(rows: slice) -> np.ndarray:
        grey = stretch(values(rows), low, high)
        return 255 - grey if min_is_white else grey

    return band
