"""A page of prepared images with their outlines, to see at a glance that images and labels belong together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from scipy import ndimage

from hub.files import replace_file

_THUMB = 160
_PER_ROW = 8
_COLOURS = np.array(
    [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167)], np.uint8
)


def draw_contact_sheet(prepared: Path, sources: list[str], rows_of: Callable[[], Iterator[dict]]) -> None:
    """Write `contact_sheet.png`: a row a source, evenly picked labelled images.

    Parameters
    ----------
    rows_of
        Gives the records of all images, one at a time; it is called twice.
    """
    counts = Counter(row["image"]["source"] for row in rows_of() if row["annotations"])
    columns = {source: _evenly(counts[source]) for source in sources}
    sheet = np.zeros((max(1, len(sources)) * _THUMB, _PER_ROW * _THUMB, 3), np.uint8)
    seen: Counter[str] = Counter()
    for row in rows_of():
        source = row["image"]["source"]
        if not row["annotations"]:
            continue
        if seen[source] in columns[source]:
            top, left = sources.index(source) * _THUMB, columns[source].index(seen[source]) * _THUMB
            thumbnail = _thumbnail(prepared, row["image"]["file_name"], row["annotations"])
            sheet[top : top + _THUMB, left : left + _THUMB] = thumbnail
        seen[source] += 1
    with replace_file(prepared / "contact_sheet.png", "wb") as file:
        Image.fromarray(sheet).save(file, format="PNG")


def _evenly(count: int) -> list[int]:
    """Numbers of at most a row of images."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(_PER_ROW, count)).tolist()})


def _thumbnail(prepared: Path, file_name: str, annotations: list[dict]) -> np.ndarray:
    with Image.open(prepared / file_name) as image:
        pixels = np.asarray(image.convert("RGB")).copy()
    for number, annotation in enumerate(annotations):
        colour = _COLOURS[number % len(_COLOURS)]
        if annotation["segmentation"]:
            inside = coco_mask.decode(annotation["segmentation"]).astype(bool)
        else:
            x, y, width, height = (int(v) for v in annotation["bbox"])
            inside = np.zeros(pixels.shape[:2], bool)
            inside[y : y + height, x : x + width] = True
        pixels[ndimage.binary_dilation(inside, iterations=4) & ~inside] = colour
    return np.asarray(Image.fromarray(pixels).resize((_THUMB, _THUMB), Image.Resampling.LANCZOS))
