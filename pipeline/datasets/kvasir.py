"""Kvasir-SEG colonoscopy polyps; `meta.csv` groups near-duplicate images, which a split must not cut."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pipeline.datasets.image_files import image_files, load_pair, read_rows, read_splits
from pipeline.datasets.sample import Sample, Source


def matches(folder: Path) -> bool:
    return any((folder / "images").glob("cju*"))


def read(folder: Path) -> Source:
    splits = read_splits(folder, "neardup_group")
    groups = {}
    if (folder / "meta.csv").is_file():
        groups = {
            row["image"]: row["neardup_group"] for row in read_rows(folder / "meta.csv", "image", "neardup_group")
        }
    samples = []
    for image in image_files(folder / "images"):
        group = groups.get(image.stem, image.stem)
        load = partial(load_pair, image, folder / "masks" / f"{image.stem}.png", "polyp")
        samples.append(Sample(image.stem, group, load, splits.get(group)))
    return Source(folder.name, "colonoscopy", ("polyp",), tuple(samples))
