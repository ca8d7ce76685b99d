"""The voxels of a volume: read without a second copy, and brought to 8 bits over the whole volume."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from pipeline.errors import InputError
from pipeline.readers.content import damaged
from pipeline.readers.intensity import stretch
from pipeline.scratch import let_go, scratch_array

#: Largest volume: 512x512 pixels in 2,000 slices have 524 million.
MAX_VOXELS = 600_000_000
#: Of a larger volume every n-th voxel is looked at for its window.
_WINDOW_SAMPLE = 4_000_000
_CHUNK = 16 << 20
#: Bytes of a temporary file that this process keeps in its memory at once, or a little more.
_LET_GO_EVERY = 128 << 20
#: Least value of a volume that is taken for CT: air has -1000 Hounsfield units.
_CT_BELOW = -500
_CT_WINDOWS = "40,400 for soft tissue, 40,80 for the brain, -600,1500 for the lungs"


def check_shape(path: Path, shape: Sequence[int]) -> None:
    """Refuse what is no volume, by the three lengths that a header gives."""
    found = "x".join(str(length) for length in shape)
    if len(shape) != 3:
        raise InputError(path, f"{len(shape)}-D image ({', '.join(map(str, shape))})", "3-D. Pick one volume first.")
    if min(shape) < 1:
        raise InputError(path, f"a volume of {found} voxels", "at least one voxel")
    if min(shape) < 2:
        raise InputError(path, f"a volume of {found} voxels", "two slices or more; one alone is an image")
    if math.prod(shape) > MAX_VOXELS:
        raise InputError(path, f"a volume of {found} voxels", f"at most {MAX_VOXELS // 10**6} million voxels")


def read_stored(path: Path, stream: IO[bytes], shape: Sequence[int], dtype: np.dtype, kind: str) -> np.ndarray:
    """The next voxels of an open file, first axis fastest, as they are stored, and the file's end after them.

    Raises
    ------
    InputError
        Where the file ends before the last voxel, of a `kind` such as 'NIfTI'.
    """
    if np.dtype(dtype).hasobject:
        raise damaged(path, kind)
    stored = scratch_array(path, tuple(shape)[::-1], dtype)
    rest = memoryview(stored.reshape(-1).view(np.uint8))
    while rest:
        count = stream.readinto(rest[:_CHUNK])
        if not count:
            raise damaged(path, kind)
        rest = rest[count:]
        if len(rest) % _LET_GO_EVERY < count:
            let_go(stored)
    return stored.transpose()


def grey_voxels(
    path: Path,
    stored: np.ndarray,
    slope: float = 1.0,
    intercept: float = 0.0,
    window: tuple[float, float] | None = None,
) -> tuple[np.ndarray, list[str]]:
    """Stored values (X, Y, Z) -> uint8 of the same shape, and what a person should know about it.

    `window` is (centre, width) of what becomes 0 and 255. Without one, of a volume without negative values it is what
    MedSAM prepares MRI with and the networks were trained on: percentiles 0.5 and 99.5 of what is above zero, over
    the whole volume (bowang-lab/MedSAM, `pre_CT_MR.py`); with negative values from the least to the largest.
    NaN and infinite values count as the least.

    Raises
    ------
    InputError
        Where no value is finite, or the values are too large to subtract.
    """
    low, high, strange = _range(path, stored, slope, intercept)
    notes = []
    if strange:
        notes.append(f"{strange} voxels are NaN or infinite; they count as the least value")
    least = low
    if window is not None:
        low, high = window[0] - window[1] / 2, window[0] + window[1] / 2
    elif low >= 0:
        low, high = _without_outliers(stored, slope, intercept) or (low, high)
    elif low <= _CT_BELOW:
        notes.append(f"values from {low:g} to {high:g} look like CT; --window shows less and clearer: {_CT_WINDOWS}")
    grey = scratch_array(path, stored.shape[::-1], np.uint8).transpose()
    for slab, values in _slabs(stored, slope, intercept):
        if slab.start * math.prod(stored.shape[:-1]) % _LET_GO_EVERY < values.size:
            let_go(grey)
        if strange:
            values[~np.isfinite(values)] = least
        if high > low:
            # single precision, as in training: the same voxels round up
            grey[..., slab] = np.round(((values - low) / (high - low)).clip(0, 1) * 255)
        else:
            grey[..., slab] = stretch(values, low, high)
    let_go(stored)
    return grey, notes


def _slabs(stored: np.ndarray, slope: float, intercept: float) -> Iterator[tuple[slice, np.ndarray]]:
    """Slices along the last axis, a few at a time, and their values, float32."""
    slice_bytes = math.prod(stored.shape[:-1]) * stored.itemsize
    thickness = max(1, (2 << 20) * stored.itemsize // slice_bytes)
    for first in range(0, stored.shape[-1], thickness):
        slab = slice(first, first + thickness)
        if first * slice_bytes % _LET_GO_EVERY < thickness * slice_bytes:
            let_go(stored)
        values = stored[..., slab]
        if (slope, intercept) != (1, 0):
            values = values * np.float64(slope) + intercept
        with np.errstate(over="ignore"):
            yield slab, np.array(values, np.float32)


def _range(path: Path, stored: np.ndarray, slope: float, intercept: float) -> tuple[float, float, int]:
    """Least and largest finite value, and how many others there are."""
    low, high, strange = math.inf, -math.inf, 0
    for _, values in _slabs(stored, slope, intercept):
        finite = values[np.isfinite(values)]
        strange += values.size - finite.size
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if high < low or not np.isfinite(np.float32(high) - np.float32(low)):
        raise InputError(path, "holds NaN or infinite values only, or too large ones", "finite intensities")
    return low, high, strange


def _without_outliers(stored: np.ndarray, slope: float, intercept: float) -> tuple[float, float] | None:
    step = math.ceil(stored.size / _WINDOW_SAMPLE)
    sample = np.asarray(stored.transpose().reshape(-1)[:: step | 1 if step > 1 else 1])
    with np.errstate(over="ignore"):
        sample = np.array(sample * np.float64(slope) + intercept, np.float32)
    inside = sample[np.isfinite(sample) & (sample > 0)]
    if not inside.size:
        return None
    low, high = np.percentile(inside, (0.5, 99.5))
    return (float(low), float(high)) if low < high else None
