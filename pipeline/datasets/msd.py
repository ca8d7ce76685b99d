"""Medical Segmentation Decathlon: `dataset.json`, `imagesTr`, `labelsTr`, NIfTI, several labels and channels.

Task04 (hippocampus) becomes one class, hippocampus, of anterior and posterior merged, cut in coronal slices. Any other
task keeps its own label names and is cut along its third axis.

An image of several channels (X, Y, Z, C) becomes RGB. Task01 (brain tumour: FLAIR, T1w, t1gd, T2w) gives T1w, FLAIR,
t1gd, the order of the LGG set. Of other tasks the first three channels are taken; two channels a, b become a, b, a
(Task05: T2, ADC). Each channel is windowed on its own.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.datasets.image_files import read_splits, regions_of
from pipeline.datasets.sample import Region, Sample, Source
from pipeline.datasets.volume_files import grey_slice, load_labels, open_volume, slice_of
from pipeline.errors import InputError

#: Tasks that the release's classes are trained on: (class name, slice axis).
_MERGED = {"hippocampus": ("hippocampus", 1)}
_DEFAULT_AXIS = 2
#: Smallest part of a slice's label that becomes a region; volumes are coarse, so far fewer pixels than in an image.
_MIN_PX = 5
#: Sequences that become red, green and blue where a task has all of them.
_RGB_SEQUENCES = ("t1w", "flair", "t1gd")


def matches(folder: Path) -> bool:
    return (folder / "dataset.json").is_file() and (folder / "labelsTr").is_dir()


def read(folder: Path) -> Source:
    description = _description(folder / "dataset.json")
    labels = {int(value): name for value, name in description["labels"].items() if int(value) > 0}
    merged = _MERGED.get(description["name"].lower())
    names = dict.fromkeys(labels, merged[0]) if merged else labels
    axis = merged[1] if merged else _DEFAULT_AXIS

    modalities = list(description.get("modality", {}).values())
    channels = rgb_channels(modalities)
    splits = read_splits(folder, "volume")
    samples, missing = [], []
    for entry in description["training"]:
        image, label = folder / entry["image"], folder / entry["label"]
        volume = image.name.removesuffix(".gz").removesuffix(".nii")
        if not image.is_file() or not label.is_file():
            missing.append(volume)
            continue
        shape = _checked_shape(image, modalities)
        of_file = channels if len(shape) == 4 else None
        for index in range(shape[axis]):
            load = partial(_load_slice, image, label, axis, index, names, of_file)
            samples.append(Sample(f"{volume}_{index:03d}", volume, load, splits.get(volume), volume, index))
    classes = tuple(dict.fromkeys(names.values()))
    return Source(folder.name, " ".join(modalities) or "unknown", classes, tuple(samples), tuple(missing), axis)


def _description(path: Path) -> dict:
    expected = "the Decathlon's dataset.json: name, labels {value: name}, training [{image, label}]"
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, f"unreadable ({error})", expected) from None
    lacking = [key for key in ("name", "labels", "training") if key not in description]
    if lacking:
        raise InputError(path, f"lacks {', '.join(lacking)}", expected)
    strange = [value for value in description["labels"] if not value.isdecimal()]
    strange += [entry for entry in description["training"] if not {"image", "label"} <= set(entry)]
    if strange:
        raise InputError(path, f"holds {strange[0]!r}", expected)
    return description


def rgb_channels(modalities: list[str]) -> tuple[int, int, int]:
    """Which channels become red, green and blue, given the names of all of them."""
    places = {name.lower(): number for number, name in enumerate(modalities)}
    if places.keys() >= set(_RGB_SEQUENCES):
        return tuple(places[name] for name in _RGB_SEQUENCES)
    last = max(len(modalities) - 1, 0)
    return 0, min(1, last), 2 if last >= 2 else 0


def _checked_shape(image: Path, modalities: list[str]) -> tuple[int, ...]:
    shape = open_volume(image).shape
    count = shape[3] if len(shape) == 4 else 1
    if len(shape) not in (3, 4):
        raise InputError(image, f"{len(shape)}-D image {shape}", "a volume (X, Y, Z), or (X, Y, Z, channels)")
    if count != max(len(modalities), 1):
        raise InputError(image, f"{count} channels", f"{len(modalities)}, as dataset.json lists under modality")
    return shape


def _load_slice(
    image: Path,
    label: Path,
    axis: int,
    index: int,
    names: dict,
    channels: tuple[int, int, int] | None,
    *,
    every_pixel: bool = False,
) -> tuple[np.ndarray, list[Region]]:
    labels = slice_of(load_labels(label, image), axis, index)
    unknown = sorted(set(np.unique(labels).tolist()) - {0, *names})
    if unknown:
        raise InputError(label, f"unknown label {unknown[0]}", f"0 or {', '.join(map(str, names))} of dataset.json")
    if channels:
        pixels = np.stack([grey_slice(image, axis, index, channel) for channel in channels], axis=2)
    else:
        pixels = np.repeat(grey_slice(image, axis, index)[..., None], 3, axis=2)
    regions = []
    for name in dict.fromkeys(names.values()):
        values = [value for value, its_name in names.items() if its_name == name]
        regions += regions_of(np.isin(labels, values), name, min_px=_MIN_PX, every_pixel=every_pixel)
    return pixels, regions
