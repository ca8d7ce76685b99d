"""HC18 fetal head ultrasound (Zenodo 1327317), outlines filled; the exam is the name's first three digits."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pipeline.datasets.image_files import image_files, load_pair, read_splits
from pipeline.datasets.sample import Sample, Source


def matches(folder: Path) -> bool:
    return any((folder / "images").glob("[0-9][0-9][0-9]_*HC.*"))


def read(folder: Path) -> Source:
    splits = read_splits(folder, "exam")
    samples = []
    for image in image_files(folder / "images"):
        exam = image.stem[:3]
        load = partial(load_pair, image, folder / "masks" / f"{image.stem}.png", "fetal_head", 1)
        samples.append(Sample(image.stem, exam, load, splits.get(exam)))
    return Source(folder.name, "fetal ultrasound", ("fetal_head",), tuple(samples))
