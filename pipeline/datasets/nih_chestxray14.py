"""NIH ChestX-ray14: the 984 boxes of `BBox_List_2017.csv`, eight findings, no masks.

The download comes in parts, so any of `images*/` may be there: listed images that are absent are counted, and images
without a box are left out, since nobody looked for boxes in them. Boxes are in pixels of the official 1024x1024 images;
where an image was made smaller, its boxes are scaled.
"""

from __future__ import annotations

import csv
import math
import re
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.datasets.image_files import image_files, load_rgb, read_splits
from pipeline.datasets.sample import Region, Sample, Source
from pipeline.errors import InputError

FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltrate",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
)
_LIST = "BBox_List_2017.csv"
_SIZE = 1024
#: The commas of the last name are not quoted in the official file, whose header therefore has six to nine cells.
_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h]"


def matches(folder: Path) -> bool:
    return (folder / _LIST).is_file()


def read(folder: Path) -> Source:
    splits = read_splits(folder, "patient")
    # by name without suffix, as smaller copies are often JPEG; a folder that comes later wins, PNG before JPEG
    found = {}
    for path in image_files(folder, "images*/**/*"):
        if path.suffix == ".png" or found.get(path.stem, path).suffix != ".png":
            found[path.stem] = path
    samples, missing = [], []
    for image, boxes in sorted(read_boxes(folder / _LIST).items()):
        if image in found:
            patient = image[:8]
            samples.append(Sample(image, patient, partial(_load, found[image], boxes), splits.get(patient)))
        else:
            missing.append(image)
    return Source(folder.name, "chest X-ray", FINDINGS, tuple(samples), tuple(missing))


def read_boxes(path: Path) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    """{image name without suffix: [(finding, xyxy in 1024-pixel coordinates)]}, in the order of the list."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file)
            header = ",".join(next(lines, []))
            rows = [(lines.line_num, row) for row in lines if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, f"unreadable table ({error})", f"a CSV file with the columns {_HEADER}") from None
    if header.rstrip(",") != _HEADER:
        raise InputError(path, f"columns {header!r}", f"the columns {_HEADER}")
    boxes: dict[str, list] = {}
    for number, row in rows:
        image, finding, box = _checked_row(f"{path}: line {number}", row)
        boxes.setdefault(image, []).append((finding, box))
    return boxes


def _checked_row(subject: str, row: list[str]) -> tuple[str, str, tuple[float, ...]]:
    if len(row) < 6:
        raise InputError(subject, f"{len(row)} values", f"the six of {_HEADER}")
    image, finding = Path(row[0]).stem, row[1]
    if not re.fullmatch(r"\d{8}_\d{3}", image):
        raise InputError(subject, f"image {row[0]!r}", "a name like 00013118_008.png")
    if finding not in FINDINGS:
        raise InputError(subject, f"unknown finding {finding!r}", f"one of {', '.join(FINDINGS)}")
    try:
        x, y, width, height = (float(value) for value in row[2:6])
    except ValueError:
        raise InputError(subject, f"box {row[2:6]}", "four numbers x, y, w, h") from None
    # false for NaN too; a box that starts beyond the image has nothing of it
    if not (0 <= x < _SIZE and 0 <= y < _SIZE and 0 < width < math.inf and 0 < height < math.inf):
        raise InputError(subject, f"box {row[2:6]}", f"a corner within {_SIZE}x{_SIZE} pixels and a size above 0")
    return image, finding, (x, y, min(x + width, _SIZE), min(y + height, _SIZE))


def _load(
    path: Path, boxes: list[tuple[str, tuple[float, ...]]], *, every_pixel: bool = True
) -> tuple[np.ndarray, list[Region]]:
    pixels = load_rgb(path)
    height, width = pixels.shape[:2]
    scale = np.array([width, height, width, height]) / _SIZE
    return pixels, [Region(finding, (np.array(box) * scale).astype(np.float32)) for finding, box in boxes]
