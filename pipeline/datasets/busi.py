"""BUSI breast ultrasound: benign and malignant lesions, normal images with empty masks; no patient ids."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pipeline.datasets.image_files import image_files, load_pair, read_splits
from pipeline.datasets.sample import Sample, Source


def matches(folder: Path) -> bool:
    return any((folder / "images").glob("benign*")) or any((folder / "images").glob("malignant*"))


def read(folder: Path) -> Source:
    splits = read_splits(folder, "image")
    samples = []
    for path in image_files(folder / "images"):
        image = path.stem
        load = partial(load_pair, path, folder / "masks" / f"{path.stem}.png", "breast_lesion")
        samples.append(Sample(path.stem, image, load, splits.get(image)))
    return Source(folder.name, "breast ultrasound", ("breast_lesion",), tuple(samples))
