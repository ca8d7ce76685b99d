"""TCGA-LGG brain MRI slices (Buda et al. 2019): channels are pre-contrast, FLAIR and post-contrast, the mask is FLAIR
abnormality. Most slices have an empty mask.

Two layouts are read: `images/<series>/NNN.jpg` with `masks/<series>/NNN.png`, and the original
`<series>/<series>_N.tif` with `<series>_N_mask.tif`.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from pipeline.datasets.image_files import image_files, load_pair, read_splits
from pipeline.datasets.sample import Sample, Source

_SERIES = "TCGA_*_*_*"


def matches(folder: Path) -> bool:
    return any((folder / "images").glob(_SERIES)) or any(folder.glob(f"{_SERIES}/*_mask.tif"))


def read(folder: Path) -> Source:
    splits = read_splits(folder, "patient")
    samples = []
    for series in sorted(p for p in [*(folder / "images").glob(_SERIES), *folder.glob(_SERIES)] if p.is_dir()):
        patient = series.name.rsplit("_", 1)[0]
        for index, image, mask in _slices(folder, series):
            name = f"{series.name}_{index:03d}"
            load = partial(load_pair, image, mask, "brain_tumor")
            samples.append(Sample(name, patient, load, splits.get(patient), series.name, index))
    return Source(folder.name, "brain MRI", ("brain_tumor",), tuple(samples))


def _slices(folder: Path, series: Path) -> list[tuple[int, Path, Path]]:
    if series.parent.name == "images":
        images = image_files(series)
        return [(int(p.stem), p, folder / "masks" / series.name / f"{p.stem}.png") for p in images]
    found = []
    for image in series.glob("*.tif"):
        number = re.fullmatch(rf"{re.escape(series.name)}_(\d+)", image.stem)
        if number:
            found.append((int(number[1]), image, image.with_name(f"{image.stem}_mask.tif")))
    return sorted(found)
