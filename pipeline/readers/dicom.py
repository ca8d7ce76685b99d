"""Single DICOM images, through pydicom and the decoders of pylibjpeg."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import apply_color_lut, apply_modality_lut, as_pixel_options, convert_color_space, get_decoder
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from pipeline.errors import InputError
from pipeline.readers.content import ACCEPTED, DAMAGE, check_size, damaged
from pipeline.readers.dicom_file import check_codestream, open_dicom
from pipeline.readers.intensity import fill_rgb, row_bands, stretch, value_range
from pipeline.scan import Scan

#: Largest span of stored values whose way to the screen is worked out once a value rather than once a pixel.
_TABLE_SIZE = 1 << 16
BROKEN = (*DAMAGE, BytesLengthException, InvalidDicomError)
#: End-of-image marker, and among how many last bytes it must be: padding may follow it.
_JPEG_END, _JPEG_END_WITHIN = b"\xff\xd9", 16
#: Compressions whose frames give a size of their own.
CODESTREAMS = JPEGTransferSyntaxes + JPEGLSTransferSyntaxes + JPEG2000TransferSyntaxes
_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def read(path: Path) -> Scan:
    """A single DICOM image as a viewer shows it first.

    Grey: modality LUT or rescale, then the file's first VOI LUT, else its first window (LINEAR, LINEAR_EXACT or
    SIGMOID; DICOM PS3.3 C.11.2), else from least to largest value that is no padding; MONOCHROME1 is inverted.
    Colours (RGB, YBR, palette) are taken as they are. Spacing is PixelSpacing, else ImagerPixelSpacing.
    """
    try:
        dataset = open_dicom(path)
        _check(path, dataset)
        lift_functional_groups(dataset)
        stored, photometric = decode(path, dataset)
        pixels = np.empty((*stored.shape[:2], 3), np.uint8)
        fill_rgb(pixels, _shown(path, dataset, stored, photometric))
        return Scan(path, pixels, spacing_mm(dataset))
    except InputError:
        raise
    except BROKEN:
        raise damaged(path, "DICOM") from None


def _check(path: Path, dataset: Dataset) -> None:
    if not any(keyword in dataset for keyword in _PIXEL_KEYWORDS):
        raise InputError(path, "a DICOM file without pixels (no image, or cut short)", ACCEPTED)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise InputError(path, f"a DICOM file of {frames} frames", "a single frame. Pick one frame first.")
    check_size(path, int(dataset.Columns), int(dataset.Rows))


def lift_functional_groups(dataset: Dataset) -> None:
    """Bring window, rescale and spacing of an enhanced image to where other images have them."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in (dataset.get(groups) or ())[:1]:
            for macro in ("PixelMeasuresSequence", "FrameVOILUTSequence", "PixelValueTransformationSequence"):
                for item in (group.get(macro) or ())[:1]:
                    dataset.update(item)


def decode(path: Path, dataset: Dataset) -> tuple[np.ndarray, str]:
    """Stored values (H, W) or (H, W, 3), and what they mean after decompression. Drops the compressed ones."""
    if "TransferSyntaxUID" not in dataset.file_meta:  # a file without preamble: pydicom has seen how it is written
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    syntax = dataset.file_meta.TransferSyntaxUID
    # on damaged runs pylibjpeg's RLE decoder panics, which no `except Exception` would stop
    plugin = "pydicom" if syntax == RLELossless else ""
    try:
        if syntax in CODESTREAMS:
            _check_frame(path, dataset, syntax)
        # raw: the change of colours would hold three floats a pixel
        stored, meaning = get_decoder(syntax).as_array(
            dataset, raw=True, decoding_plugin=plugin, **as_pixel_options(dataset)
        )
    except InputError:
        raise
    except BROKEN:
        problem = "its pixels can't be decoded (damaged, cut short, or an unsupported compression)"
        raise InputError(path, problem, "a whole DICOM file, uncompressed, RLE, JPEG, JPEG-LS or JPEG 2000") from None
    for keyword in _PIXEL_KEYWORDS:
        if keyword in dataset:
            del dataset[keyword]
    return stored, str(meaning["photometric_interpretation"])


def _check_frame(path: Path, dataset: Dataset, syntax: str) -> None:
    """Raise ValueError where a JPEG stream has no end: libjpeg would fill what is missing with grey."""
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1), b"")
    if syntax not in JPEG2000TransferSyntaxes and _JPEG_END not in frame[-_JPEG_END_WITHIN:]:
        raise ValueError("JPEG stream without end")
    check_codestream(path, dataset, frame)


def _shown(path: Path, dataset: Dataset, stored: np.ndarray, photometric: str) -> Callable[[slice], np.ndarray]:
    """Rows -> uint8, RGB or grey."""
    if stored.ndim == 3:
        if stored.shape[2] != 3:
            raise InputError(path, f"a DICOM image of {stored.shape[2]} channels", "grey, palette, RGB or YBR")
        full = float((1 << int(dataset.BitsStored)) - 1)
        to_rgb = photometric in ("YBR_FULL", "YBR_FULL_422")
        return lambda rows: _eight_bits(
            convert_color_space(stored[rows], "YBR_FULL", "RGB") if to_rgb else stored[rows], full
        )
    if photometric == "PALETTE COLOR":
        show, span = palette_display(dataset), (int(stored.min()), int(stored.max()))
    else:
        show, span = _grey(path, dataset, stored)
    if stored.dtype.kind == "f" or span[1] - span[0] >= _TABLE_SIZE:
        return lambda rows: show(stored[rows])
    table = show(np.arange(span[0], span[1] + 1))
    return lambda rows: table[stored[rows].astype(np.int64) - span[0]]


def _eight_bits(values: np.ndarray, full: float) -> np.ndarray:
    return values if values.dtype == np.uint8 and full == 255 else stretch(values, 0, full)


def palette_display(dataset: Dataset) -> Callable[[np.ndarray], np.ndarray]:
    def show(values: np.ndarray) -> np.ndarray:
        rgb = apply_color_lut(values, dataset)[..., :3]
        # entries of 8 bits may stand in 16, and entries said to have 16 bits may stand in 8
        return rgb if rgb.dtype == np.uint8 else (rgb >> (int(dataset.RedPaletteColorLookupTableDescriptor[2]) - 8))

    return lambda values: show(values).astype(np.uint8)


def _grey(path: Path, dataset: Dataset, stored: np.ndarray):
    """The way of stored values to the screen, and their least and largest value."""
    span = value_range(path, (stored[rows] for rows in row_bands(*stored.shape)))
    if stored.dtype.kind != "f":
        span = int(span[0]), int(span[1])
    extremes = None if has_window(dataset) else physical_range(path, dataset, stored)
    return grey_display(dataset, extremes), span


def has_window(dataset: Dataset) -> bool:
    """Whether the file says which values are to be seen."""
    return _voi_lut(dataset) is not None or _window(dataset) is not None


def physical_range(path: Path, dataset: Dataset, stored: np.ndarray) -> tuple[float, float]:
    """Least and largest value of an image after modality LUT or rescale, without padding."""
    return value_range(path, (_physical(dataset, band) for band in _without_padding(dataset, stored)))


def grey_display(
    dataset: Dataset, extremes: tuple[float, float] | None, window: tuple[float, float] | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """Stored values -> uint8: by `window` (centre, width) or else the file's own, or else between the `extremes`."""
    voi = _voi_lut(dataset) if window is None else None
    function = (*window, "LINEAR_EXACT") if window else _window(dataset)

    def show(values: np.ndarray) -> np.ndarray:
        values = _physical(dataset, values)
        if voi is not None:
            grey = voi(values)
        elif function is not None:
            grey = apply_window(values, *function)
        else:
            grey = stretch(values, *extremes)
        return 255 - grey if dataset.PhotometricInterpretation == "MONOCHROME1" else grey

    return show


def _physical(dataset: Dataset, values: np.ndarray) -> np.ndarray:
    wide = values if values.dtype.kind == "f" else values.astype(np.int64)
    return apply_modality_lut(wide, dataset)


def _without_padding(dataset: Dataset, stored: np.ndarray):
    """Stored values band by band, without those that only fill the frame; all of them where nothing else is."""
    padding = dataset.get("PixelPaddingValue")
    bands = [stored[rows] for rows in row_bands(*stored.shape)]
    if not isinstance(padding, int):
        return bands
    limit = dataset.get("PixelPaddingRangeLimit", padding)
    least, largest = sorted((padding, limit if isinstance(limit, int) else padding))
    outside = [(band < least) | (band > largest) for band in bands]
    if not any(keep.any() for keep in outside):
        return bands
    return (band[keep] for band, keep in zip(bands, outside, strict=True))


def _window(dataset: Dataset) -> tuple[float, float, str] | None:
    """Centre, width and function of the first window; None where there is no usable one."""
    centre, width = first_number(dataset.get("WindowCenter")), first_number(dataset.get("WindowWidth"))
    if centre is None or width is None or width <= 0:
        return None
    return centre, width, str(dataset.get("VOILUTFunction") or "LINEAR").upper()


def apply_window(values: np.ndarray, centre: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """Values -> uint8 by a window of DICOM (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    LINEAR with a width below 1, which the standard forbids and files of small floats have, counts as LINEAR_EXACT.
    """
    if function == "SIGMOID":
        with np.errstate(over="ignore"):  # far below the window exp overflows to infinity, which gives 0
            return stretch(1 / (1 + np.exp(-4 * (np.asarray(values, np.float64) - centre) / width)), 0, 1)
    if function != "LINEAR_EXACT" and width >= 1:
        centre, width = centre - 0.5, width - 1
    return stretch(values, centre - width / 2, centre + width / 2)


def _voi_lut(dataset: Dataset) -> Callable[[np.ndarray], np.ndarray] | None:
    """Values -> uint8 by the first VOI LUT (PS3.3 C.11.2.1.1); None where there is none.

    Not pydicom's `apply_voi_lut`, whose index wraps around where entries of 8 bits are more than 256.
    """
    if not dataset.get("VOILUTSequence"):
        return None
    item = dataset.VOILUTSequence[0]
    entries, first, bits = (int(number) for number in item.LUTDescriptor)
    entries = entries or _TABLE_SIZE
    data = item.LUTData
    if isinstance(data, bytes):
        # entries of 8 bits lie one a byte, padded to an even count, or one a word
        words = f"{'<' if dataset.original_encoding[1] else '>'}u2"
        data = np.frombuffer(data, words if len(data) >= 2 * entries else np.uint8)
    table = stretch(np.asarray(data)[:entries], 0, (1 << bits) - 1)

    def show(values: np.ndarray) -> np.ndarray:
        return table[(np.rint(values) - first).clip(0, len(table) - 1).astype(np.int64)]

    return show


def spacing_mm(dataset: Dataset) -> tuple[float, float] | None:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        spacing = numbers(dataset, keyword, 2)
        if spacing is not None and min(spacing) > 0:
            return spacing[0], spacing[1]
    return None


def numbers(dataset: Dataset, keyword: str, count: int) -> list[float] | None:
    """The value of an element that should hold `count` finite numbers; None where it does not."""
    value = dataset.get(keyword)
    if not hasattr(value, "__len__"):
        return None
    found = [first_number(number) for number in value]
    return found if len(found) == count and None not in found else None


def first_number(value: object) -> float | None:
    """The first of one or several numbers, None where there is no finite one."""
    if value is not None and not isinstance(value, (str, int, float)) and hasattr(value, "__getitem__"):
        value = value[0] if len(value) else None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
