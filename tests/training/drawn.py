"""A prepared folder of drawn discs, small enough to train on in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

CANVAS = 640


def draw_prepared(folder: Path, *, images: int = 6, seed: int = 0) -> Path:
    """As `prepare` writes it: two sources with one bright disc an image, and in the first one empty image a split."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:CANVAS, :CANVAS]
    for split in ("train", "val"):
        entries, annotations = [], []
        for number in range(1, images + 1):
            empty = number == images
            source, category = (("first", 1), ("second", 2))[number % 2 if not empty else 0]
            pixels = rng.integers(20, 60, (CANVAS, CANVAS), np.uint8)
            if not empty:
                radius, centre = rng.integers(60, 160), rng.integers(200, 440, 2)
                disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
                pixels[disc] = 220
                rle = coco_mask.encode(np.asfortranarray(disc.astype(np.uint8)))
                box = [float(v) for v in coco_mask.toBbox(rle)]
                counts = {"size": [CANVAS, CANVAS], "counts": rle["counts"].decode()}
                annotations.append(
                    {"id": number, "image_id": number, "category_id": category, "bbox": box, "segmentation": counts}
                )
            name = f"images/{split}_{number}.png"
            (folder / "images").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / name)
            entry = {"id": number, "file_name": name, "source": source, "modality": "drawing"}
            entries.append(entry | {"content": [0, 0, CANVAS, CANVAS]})
        categories = [{"id": 1, "name": "dot"}, {"id": 2, "name": "blob"}]
        content = {"categories": categories, "images": entries, "annotations": annotations}
        (folder / f"{split}.json").write_text(json.dumps(content))
    return folder
