"""Slices of NIfTI volumes: one volume is held at a time, however many slices are asked for."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, SpatialImage

from pipeline.errors import InputError
from pipeline.readers.content import DAMAGE

#: What nibabel and the decompressors raise for a file that is cut short or no NIfTI.
_BROKEN = (*DAMAGE, ImageFileError, HeaderDataError)


def open_volume(path: Path) -> SpatialImage:
    """Header and affine of a NIfTI file, without its voxels."""
    try:
        return nibabel.load(path)
    except FileNotFoundError:
        raise InputError(path, "no such volume", "the source's official download, complete") from None
    except _BROKEN as error:
        raise _broken(path, error) from None


@lru_cache(maxsize=6)
def load_volume(path: Path, channel: int | None = None) -> np.ndarray:
    """A NIfTI volume as it lies in its file, float32 (X, Y, Z); of a 4-D file (X, Y, Z, C) one `channel`."""
    image = open_volume(path)
    if len(image.shape) != (3 if channel is None else 4):
        raise InputError(path, f"{len(image.shape)}-D image {image.shape}", "a 3-D volume")
    try:
        volume = np.asarray(image.dataobj if channel is None else image.dataobj[..., channel], np.float32)
    except _BROKEN as error:
        raise _broken(path, error) from None
    if not np.isfinite(volume).all():
        raise InputError(path, "holds NaN or infinite values", "finite intensities")
    return volume


@lru_cache(maxsize=6)
def intensity_window(path: Path, channel: int | None = None) -> tuple[float, float]:
    """The intensities that become 0 and 255: percentiles 0.5 and 99.5 of what is not background.

    As MedSAM prepares MRI (bowang-lab/MedSAM, `pre_CT_MR.py`).
    """
    volume = load_volume(path, channel)
    inside = volume[volume > 0]
    if not inside.size:
        return 0.0, 1.0
    low, high = np.percentile(inside, (0.5, 99.5))
    return float(low), float(max(high, low + 1e-6))


def windowed(values: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Intensities -> uint8 grey values, `window` being what becomes 0 and 255."""
    low, high = window
    return np.round(((values - low) / (high - low)).clip(0, 1) * 255).astype(np.uint8)


def slice_of(volume: np.ndarray, axis: int, index: int) -> np.ndarray:
    """One slice, turned so that the file's last remaining axis points up."""
    return np.ascontiguousarray(np.rot90(np.take(volume, index, axis=axis)))


def grey_slice(path: Path, axis: int, index: int, channel: int | None = None) -> np.ndarray:
    """One slice of a volume (or of one channel of it) as uint8 (H, W), windowed over the whole volume."""
    return windowed(slice_of(load_volume(path, channel), axis, index), intensity_window(path, channel))


def load_labels(path: Path, image: Path) -> np.ndarray:
    """Label values of a volume, int (X, Y, Z); it must have its image's shape."""
    labels, shape = load_volume(path), open_volume(image).shape[:3]
    if labels.shape != shape:
        raise InputError(path, f"label volume {labels.shape}", f"{shape}, the shape of {image.name}")
    return np.round(labels).astype(np.int32)


def _broken(path: Path, error: Exception) -> InputError:
    return InputError(path, f"broken volume ({error})", "a whole NIfTI file; download it again")
