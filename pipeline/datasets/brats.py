"""BraTS gliomas: a folder a case, four MRI sequences and a segmentation, in the file names of 2020, 2021 and 2023.

All labels above 0 together are the whole tumour, class brain_tumor. Red, green and blue are native T1, FLAIR and T1
with contrast, the order of the LGG set, each windowed on its own; T2 must be there and is not shown. Slices are axial,
from the feet up, with the patient's front at the top and right side on the left, as radiologists look at them: the
affine of each file says where that is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from nibabel import orientations

from pipeline.datasets.image_files import read_splits, regions_of
from pipeline.datasets.sample import Region, Sample, Source
from pipeline.datasets.volume_files import intensity_window, load_volume, open_volume, windowed
from pipeline.errors import InputError


@dataclass(frozen=True)
class Edition:
    """How a year's challenge names its files.

    Attributes
    ----------
    case : of the folder's name; its first group is the patient
    shown : endings of the sequences that become red, green and blue
    unseen : ending of the fourth sequence
    labels : values of the segmentation
    """

    case: re.Pattern[str]
    shown: tuple[str, str, str]
    unseen: str
    segmentation: str
    labels: tuple[int, ...]


#: In 2023 the last number of a case counts a patient's examinations.
EDITIONS = (
    Edition(
        re.compile(r"(BraTS20_(?:Training|Validation)_\d+|BraTS2021_\d+)"),
        ("_t1", "_flair", "_t1ce"),
        "_t2",
        "_seg",
        (0, 1, 2, 4),
    ),
    Edition(re.compile(r"(BraTS-[A-Z]+-\d+)-\d+"), ("-t1n", "-t2f", "-t1c"), "-t2w", "-seg", (0, 1, 2, 3)),
)


@dataclass(frozen=True)
class Case:
    """Files of a complete case."""

    shown: tuple[Path, ...]
    segmentation: Path
    labels: tuple[int, ...]


def matches(folder: Path) -> bool:
    return bool(_case_folders(folder))


def read(folder: Path) -> Source:
    splits = read_splits(folder, "patient")
    samples, missing = [], []
    for place, edition, patient in _case_folders(folder):
        case = _complete_case(place, edition)
        if case is None:
            missing.append(place.name)
            continue
        for index in range(_depth(case.segmentation)):
            name = f"{place.name}_{index:03d}"
            samples.append(
                Sample(name, patient, partial(_load_slice, case, index), splits.get(patient), place.name, index)
            )
    return Source(folder.name, "brain MRI", ("brain_tumor",), tuple(samples), tuple(missing), slice_axis=2)


def _case_folders(folder: Path) -> list[tuple[Path, Edition, str]]:
    """(folder, edition, patient) of each case, which lie in `folder` or, as archives unpack, one level below it."""
    for places in (folder.glob("BraTS*/"), folder.glob("*/BraTS*/")):
        found = []
        for place in sorted(places):
            for edition in EDITIONS:
                match = edition.case.fullmatch(place.name)
                if match and place.is_dir():
                    found.append((place, edition, match[1]))
        if found:
            return found
    return []


def _complete_case(place: Path, edition: Edition) -> Case | None:
    files = [_volume_file(place, ending) for ending in (*edition.shown, edition.unseen, edition.segmentation)]
    # the official 2020 archive names one segmentation (case 355) differently: W39_1998.09.19_Segm.nii
    files[4] = files[4] or next(iter(sorted(place.glob("*_Segm.nii*"))), None)
    return None if None in files else Case(tuple(files[:3]), files[4], edition.labels)


def _volume_file(place: Path, ending: str) -> Path | None:
    names = (f"{place.name}{ending}.nii.gz", f"{place.name}{ending}.nii")
    return next((place / name for name in names if (place / name).is_file()), None)


@lru_cache(maxsize=16)
def _to_lps(path: Path) -> np.ndarray:
    """What turns a file's axes so that they run to the patient's left, back and head."""
    image = open_volume(path)
    if len(image.shape) != 3:
        raise InputError(path, f"{len(image.shape)}-D image {image.shape}", "a 3-D volume")
    axes = orientations.io_orientation(image.affine)
    if np.isnan(axes).any():
        raise InputError(path, "its affine is singular", "an affine that says where left, back and head are")
    return orientations.ornt_transform(axes, orientations.axcodes2ornt("LPS"))


def _depth(path: Path) -> int:
    along = _to_lps(path)[:, 0].tolist().index(2)
    return open_volume(path).shape[along]


def _oriented(path: Path) -> np.ndarray:
    return orientations.apply_orientation(load_volume(path), _to_lps(path))


def _load_slice(case: Case, index: int, *, every_pixel: bool = False) -> tuple[np.ndarray, list[Region]]:
    segmentation = _oriented(case.segmentation)
    channels = []
    for path in case.shown:
        volume = _oriented(path)
        if volume.shape != segmentation.shape:
            raise InputError(
                case.segmentation, f"label volume {segmentation.shape}", f"{volume.shape}, the shape of {path.name}"
            )
        channels.append(windowed(volume[..., index].T, intensity_window(path)))
    labels = segmentation[..., index].T
    unknown = sorted(set(np.unique(labels).tolist()) - set(case.labels))
    if unknown:
        raise InputError(case.segmentation, f"unknown label {unknown[0]:g}", " or ".join(map(str, case.labels)))
    return np.stack(channels, axis=2), regions_of(labels > 0, "brain_tumor", every_pixel=every_pixel)
