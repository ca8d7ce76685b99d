"""Medical Segmentation Decathlon: `dataset.json`, `imagesTr`, `labelsTr`, NIfTI, several labels, maybe several channels.

Task04 (hippocampus) becomes one class, hippocampus, of anterior and posterior merged, cut in coronal slices. Any other
task keeps its own label names and is cut along its third axis.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import nibabel
import numpy as np

from pipeline.datasets.image_files import read_splits, regions_of
from pipeline.datasets.sample import Region, Sample, Source
from pipeline.datasets.volume_files import grey_slice, load_labels, slice_of
from pipeline.errors import InputError

#: Tasks that the release's classes are trained on: (class name, slice axis).
_MERGED = {"hippocampus": ("hippocampus", 1)}
_DEFAULT_AXIS = 2
#: Smallest part of a slice's label that becomes a region; volumes are coarse, so far fewer pixels than in an image.
_MIN_PX = 5


def matches(folder: Path) -> bool:
    return (folder / "dataset.json").is_file() and (folder / "labelsTr").is_dir()


def read(folder: Path) -> Source:
    description = _description(folder / "dataset.json")
    labels = {int(value): name for value, name in description["labels"].items() if int(value) > 0}
    merged = _MERGED.get(description["name"].lower())
    names = dict.fromkeys(labels, merged[0]) if merged else labels
    axis = merged[1] if merged else _DEFAULT_AXIS

    splits = read_splits(folder, "volume")
    samples, missing = [], []
    for entry in description["training"]:
        image, label = folder / entry["image"], folder / entry["label"]
        volume = image.name.removesuffix(".gz").removesuffix(".nii")
        if not image.is_file() or not label.is_file():
            missing.append(volume)
            continue
        for index in range(_depth(image, axis)):
            load = partial(_load_slice, image, label, axis, index, names)
            samples.append(Sample(f"{volume}_{index:03d}", volume, load, splits.get(volume), volume, index))
    modality = " ".join(description.get("modality", {}).values()) or "unknown"
    classes = tuple(dict.fromkeys(names.values()))
    return Source(folder.name, modality, classes, tuple(samples), tuple(missing), axis)


def _description(path: Path) -> dict:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        if {"name", "labels", "training"} <= description.keys():
            return description
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(path, f"unreadable ({error})", "the Decathlon's dataset.json") from None
    raise InputError(path, "lacks name, labels or training", "the Decathlon's dataset.json")


def _depth(image: Path, axis: int) -> int:
    try:
        return nibabel.load(image).shape[axis]
    except (OSError, EOFError, IndexError, nibabel.filebasedimages.ImageFileError) as error:
        raise InputError(image, f"broken volume ({error})", "a whole 3-D NIfTI file; download it again") from None


def _load_slice(image: Path, label: Path, axis: int, index: int, names: dict) -> tuple[np.ndarray, list[Region]]:
    labels = slice_of(load_labels(label, image), axis, index)
    unknown = sorted(set(np.unique(labels).tolist()) - {0, *names})
    if unknown:
        raise InputError(label, f"unknown label {unknown[0]}", f"0 or {', '.join(map(str, names))} of dataset.json")
    pixels = np.repeat(grey_slice(image, axis, index)[..., None], 3, axis=2)
    regions = []
    for name in dict.fromkeys(names.values()):
        values = [value for value, its_name in names.items() if its_name == name]
        regions += regions_of(np.isin(labels, values), name, min_px=_MIN_PX)
    return pixels, regions
