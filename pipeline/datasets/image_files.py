"""Images with a mask file beside them: what most two-dimensional sources are."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from scipy import ndimage

from pipeline.datasets.sample import Region
from pipeline.errors import InputError
from pipeline.geometry import box_of_mask
from pipeline.scan import read_scan

#: Specks below this many pixels are slips of a labeller's pen (Kvasir has many).
MIN_COMPONENT_PX = 30


def load_rgb(path: Path) -> np.ndarray:
    """uint8 RGB (H, W, 3) of an image file, read as a user's own image will be: 16 bits, rotation, transparency."""
    return read_scan(path).pixels


def is_grey(pixels: np.ndarray) -> bool:
    """Whether the three channels of (H, W, 3) are alike."""
    return np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 0], pixels[..., 2])


def load_mask(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """bool (H, W) of a mask file; it must have its image's size."""
    mask = load_rgb(path)[..., 0] > 127
    if mask.shape != tuple(shape[:2]):
        raise InputError(
            path,
            f"mask of {mask.shape[1]}x{mask.shape[0]} pixels",
            f"{shape[1]}x{shape[0]}, the size of its image",
        )
    return mask


def components(mask: np.ndarray, min_px: int = MIN_COMPONENT_PX, min_share: float = 0.05) -> list[np.ndarray]:
    """Connected parts (8 neighbours) of a bool mask, largest first.

    Parts below `min_px` pixels or below `min_share` of the largest part are left out.
    """
    parts, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    sizes = np.bincount(parts.ravel())[1:]
    order = [index for index in np.argsort(-sizes, kind="stable") if sizes[index] >= min_px]
    return [parts == index + 1 for index in order if sizes[index] >= min_share * sizes[order[0]]]


def regions_of(
    mask: np.ndarray, label: str, *, largest: int | None = None, every_pixel: bool = False, **limits
) -> list[Region]:
    """A Region for each connected part of `mask`, at most the `largest` ones; with `every_pixel` all, however small."""
    if every_pixel:
        largest, limits = None, {"min_px": 1, "min_share": 0.0}
    return [Region(label, box_of_mask(part), part) for part in components(mask, **limits)[:largest]]


def load_pair(
    image: Path, mask: Path, label: str, largest: int | None = None, *, every_pixel: bool = False
) -> tuple[np.ndarray, list[Region]]:
    """An image and the regions of its mask file."""
    pixels = load_rgb(image)
    return pixels, regions_of(load_mask(mask, pixels.shape), label, largest=largest, every_pixel=every_pixel)


def read_rows(path: Path, *columns: str) -> list[dict[str, str]]:
    """Rows of a CSV file that must have `columns`."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            path, f"unreadable table ({error})", f"a CSV file with the columns {', '.join(columns)}"
        ) from None
    lacking = [column for column in columns if rows and column not in rows[0]]
    if lacking or not rows:
        raise InputError(path, f"lacks {', '.join(lacking) or 'any row'}", f"the columns {', '.join(columns)}")
    return rows


def read_splits(folder: Path, unit: str) -> dict[str, str]:
    """{unit: split} of `splits.csv`, empty where the source has none."""
    path = folder / "splits.csv"
    if not path.is_file():
        return {}
    splits = {row[unit]: row["split"] for row in read_rows(path, unit, "split")}
    strange = sorted(set(splits.values()) - {"train", "val", "test"})
    if strange:
        raise InputError(path, f"unknown split {strange[0]!r}", "train, val or test")
    return splits


def image_files(folder: Path, pattern: str = "*") -> list[Path]:
    """PNG and JPEG files of a folder in the order of their names; not the `._` files that macOS leaves in archives."""
    kinds = {".png", ".jpg", ".jpeg"}
    return sorted(p for p in folder.glob(pattern) if p.suffix.lower() in kinds and not p.name.startswith("."))
