"""Montgomery and Shenzhen chest X-rays (NLM): both lungs in one mask, made one instance a side."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pipeline.datasets.image_files import image_files, load_pair, read_splits
from pipeline.datasets.sample import Sample, Source


def matches(folder: Path) -> bool:
    return any((folder / "images").glob("CHNCXR_*")) or any((folder / "images").glob("MCUCXR_*"))


def read(folder: Path) -> Source:
    splits = read_splits(folder, "patient")
    samples = []
    for image in image_files(folder / "images"):
        patient = image.stem.rsplit("_", 1)[0]
        load = partial(load_pair, image, folder / "masks" / f"{image.stem}.png", "lung", 2)
        samples.append(Sample(image.stem, patient, load, splits.get(patient)))
    return Source(folder.name, "chest X-ray", ("lung",), tuple(samples))
