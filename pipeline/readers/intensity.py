"""Bring intensities of any type to 8 bits, a band of rows at a time, so that a huge scan needs no second copy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from pipeline.errors import InputError

#: Pixels that are held in a wider type than the file's at once (as float64: 16 MB).
_BAND_PIXELS = 2_000_000


def row_bands(height: int, width: int) -> Iterator[slice]:
    """Slices of rows, of about two million pixels each, that cover an image."""
    rows = max(1, _BAND_PIXELS // max(1, width))
    for first in range(0, height, rows):
        yield slice(first, min(first + rows, height))


def value_range(path: Path, bands: Iterable[np.ndarray]) -> tuple[float, float]:
    """Smallest and largest value of an image given band by band; (0, 0) of no value at all.

    Raises
    ------
    InputError
        Where there are NaN, infinite values, or values too large to subtract.
    """
    # min and max of numpy pass NaN on, so it is seen in the range
    ranges = [(band.min(), band.max()) for band in bands if band.size]
    if not ranges:
        return 0.0, 0.0
    low, high = float(np.min([low for low, _ in ranges])), float(np.max([high for _, high in ranges]))
    if not np.isfinite(high - low):
        raise InputError(path, "holds NaN or infinite values", "finite intensities")
    return low, high


def stretch(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """`low`..`high` -> uint8 0..255, rounded, clipped outside; where the two are equal what lies above is white."""
    values = np.asarray(values, np.float64)
    if high <= low:
        return np.where(values > high, np.uint8(255), np.uint8(0))
    return np.rint(((values - low) / (high - low)).clip(0, 1) * 255).astype(np.uint8)


def fill_rgb(out: np.ndarray, band: Callable[[slice], np.ndarray]) -> np.ndarray:
    """Fill uint8 RGB `out` (H, W, 3) with `band(rows)`: uint8 (rows, W, 3), or (rows, W) for grey."""
    for rows in row_bands(*out.shape[:2]):
        values = band(rows)
        out[rows] = values if values.ndim == 3 else values[..., None]
    return out
