"""Slices of NIfTI volumes: one volume is held at a time, however many slices are asked for."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import nibabel
import numpy as np

from pipeline.errors import InputError


@lru_cache(maxsize=6)
def load_volume(path: Path) -> np.ndarray:
    """A NIfTI volume as it lies in its file, float32 (X, Y, Z)."""
    try:
        volume = np.asarray(nibabel.load(path).dataobj, np.float32)
    except FileNotFoundError:
        raise InputError(path, "no such volume", "the source's official download, complete") from None
    except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        raise InputError(path, f"broken volume ({error})", "a whole NIfTI file; download it again") from None
    if volume.ndim != 3:
        raise InputError(path, f"{volume.ndim}-D image {volume.shape}", "a 3-D volume")
    if not np.isfinite(volume).all():
        raise InputError(path, "holds NaN or infinite values", "finite intensities")
    return volume


@lru_cache(maxsize=6)
def intensity_window(path: Path) -> tuple[float, float]:
    """The intensities that become 0 and 255: percentiles 0.5 and 99.5 of what is not background.

    As MedSAM prepares MRI (bowang-lab/MedSAM, `pre_CT_MR.py`).
    """
    volume = load_volume(path)
    inside = volume[volume > 0]
    if not inside.size:
        return 0.0, 1.0
    low, high = np.percentile(inside, (0.5, 99.5))
    return float(low), float(max(high, low + 1e-6))


def slice_of(volume: np.ndarray, axis: int, index: int) -> np.ndarray:
    """One slice, turned so that the file's last remaining axis points up."""
    return np.ascontiguousarray(np.rot90(np.take(volume, index, axis=axis)))


def grey_slice(path: Path, axis: int, index: int) -> np.ndarray:
    """One slice of a volume as uint8 (H, W), windowed over the whole volume."""
    low, high = intensity_window(path)
    values = (slice_of(load_volume(path), axis, index) - low) / (high - low)
    return np.round(values.clip(0, 1) * 255).astype(np.uint8)


def load_labels(path: Path, image: Path) -> np.ndarray:
    """Label values of a volume, int (X, Y, Z); it must have its image's shape."""
    labels, shape = load_volume(path), load_volume(image).shape
    if labels.shape != shape:
        raise InputError(path, f"label volume {labels.shape}", f"{shape}, the shape of {image.name}")
    return np.round(labels).astype(np.int32)
