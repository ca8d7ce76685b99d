"""A page of prepared images with their outlines, to see at a glance that images and labels belong together."""

from __future__ import annotations

import json
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


def draw_contact_sheet(prepared: Path, sources: list[str]) -> None:
    """Write `contact_sheet.png`: a row a source, evenly picked labelled images of all splits."""
    rows = {source: [] for source in sources}
    for split in ("train", "val", "test"):
        content = json.loads((prepared / f"{split}.json").read_text())
        regions: dict[int, list] = {}
        for annotation in content["annotations"]:
            regions.setdefault(annotation["image_id"], []).append(annotation)
        for image in content["images"]:
            if image["id"] in regions:
                rows[image["source"]].append((image["file_name"], regions[image["id"]]))
    sheet = np.zeros((max(1, len(sources)) * _THUMB, _PER_ROW * _THUMB, 3), np.uint8)
    for row, source in enumerate(sources):
        found = rows[source]
        picked = (
            np.unique(np.linspace(0, len(found) - 1, min(_PER_ROW, len(found))).round().astype(int)) if found else []
        )
        for column, index in enumerate(picked):
            top, left = row * _THUMB, column * _THUMB
            sheet[top : top + _THUMB, left : left + _THUMB] = _thumbnail(prepared, *found[index])
    with replace_file(prepared / "contact_sheet.png", "wb") as file:
        Image.fromarray(sheet).save(file, format="PNG")


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
