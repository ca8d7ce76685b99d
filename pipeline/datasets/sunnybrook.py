"""Sunnybrook cardiac MRI, short axis: left ventricle (endocardium).

`ed_es/` holds single frames with masks. `cine/*.npz` holds whole studies, in which a frame without `has_lv` is
unlabelled, not empty: those frames are left out here. The cine patients are in `ed_es` too, in the same split.
"""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from pipeline.datasets.image_files import image_files, load_pair, read_splits, regions_of
from pipeline.datasets.sample import Region, Sample, Source
from pipeline.errors import InputError
from pipeline.readers.content import DAMAGE


def matches(folder: Path) -> bool:
    return (folder / "ed_es" / "images").is_dir()


def read(folder: Path) -> Source:
    splits = read_splits(folder, "patient")
    samples = []
    for image in image_files(folder / "ed_es" / "images"):
        patient = image.stem.split("-IM-")[0]
        load = partial(load_pair, image, folder / "ed_es" / "masks" / f"{image.stem}.png", "left_ventricle", 1)
        samples.append(Sample(image.stem, patient, load, splits.get(patient)))
    for study in sorted((folder / "cine").glob("*.npz")):
        labelled = {name: study_array(study, name) for name in ("has_lv", "slice_index")}
        for frame in np.flatnonzero(labelled["has_lv"]).tolist():
            series = f"{study.stem}_slice{int(labelled['slice_index'][frame]):02d}"
            name = f"{series}_frame{frame:03d}"
            load = partial(_load_frame, study, frame)
            samples.append(Sample(name, study.stem, load, splits.get(study.stem), series, frame))
    return Source(folder.name, "cardiac MRI", ("left_ventricle",), tuple(samples))


@lru_cache(maxsize=8)
def study_array(study: Path, name: str) -> np.ndarray:
    """One array of a cine study: frames, masks, has_lv, has_myo, slice_index, phase_index, ..."""
    try:
        with study.open("rb") as file, np.load(file) as arrays:
            return arrays[name]
    except (*DAMAGE, BadZipFile) as error:
        raise InputError(study, f"broken study ({error})", f"an .npz file with the array {name!r}") from None


def _load_frame(study: Path, frame: int, *, every_pixel: bool = False) -> tuple[np.ndarray, list[Region]]:
    pixels = np.repeat(study_array(study, "frames")[frame][..., None], 3, axis=2)
    mask = study_array(study, "masks")[frame] == 1
    return pixels, regions_of(mask, "left_ventricle", largest=1, every_pixel=every_pixel)
