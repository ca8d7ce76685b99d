"""Labelled sequences, for what carries a mask from slice to slice or from frame to frame: the slices of a volume in
order, or the frames of a beating heart.

Frames look exactly like the images that `prepare` makes of the same source, before its canvas. Three sources have
them: LGG (stacks of slices), Decathlon tasks (volumes, cut as in `pipeline.datasets.msd`) and Sunnybrook. Of the last,
each slice of a cine study is a sequence over the heart's phase, and the slices at a phase with labels are one over the
heart; where a patient has only the single frames of `ed_es`, their numbers tell slice and phase.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np

from pipeline.datasets import lgg, msd, sunnybrook
from pipeline.datasets.image_files import is_grey
from pipeline.datasets.sample import Sample, Source
from pipeline.datasets.volume_files import open_volume
from pipeline.errors import InputError

#: Frames of a heart beat in every Sunnybrook study: number n of `ed_es` is slice (n - 1) // 20 at phase (n - 1) % 20.
_PHASES = 20
_LEFT_VENTRICLE = 1


@dataclass(frozen=True, eq=False)
class LabelledFrames:
    """The frames of a sequence and the masks of one class in them.

    Attributes
    ----------
    frames : uint8 (N, H, W) grey or (N, H, W, 3) RGB
    masks : bool (N, H, W); empty in frames without the object, and meaningless where `labelled` is false
    labelled : bool (N,): whether somebody looked; a frame that is not labelled may well hold the object
    """

    frames: np.ndarray
    masks: np.ndarray
    labelled: np.ndarray

    def __post_init__(self):
        if self.frames.shape[:3] != self.masks.shape or self.labelled.shape != self.masks.shape[:1]:
            shapes = f"frames {self.frames.shape}, masks {self.masks.shape}, labelled {self.labelled.shape}"
            raise ValueError(f"LabelledFrames: {shapes}; expected (N, H, W[, 3]), (N, H, W), (N,)")


@dataclass(frozen=True, eq=False)
class LabelledSequence:
    """One sequence, not loaded yet.

    Attributes
    ----------
    name : unique in its source
    source : name of the data set's folder
    patient : the unit that a split must not cut
    split : 'train', 'val' or 'test', None where the source does not say
    label : class name
    modality : as the source says it
    kind : 'volume' (frames are slices) or 'video' (frames are moments)
    load : () -> LabelledFrames; picklable, raises InputError
    spacing_mm : between slices, rows and columns; None where unknown, and for a video
    """

    name: str
    source: str
    patient: str
    split: str | None
    label: str
    modality: str
    kind: Literal["volume", "video"]
    load: Callable[[], LabelledFrames]
    spacing_mm: tuple[float, float, float] | None = None


def sequences(folder: str | Path, split: str | None = None) -> list[LabelledSequence]:
    """The sequences of a data set, in the order of their names; of one split, or all.

    Raises InputError where the folder is none of a source with sequences.
    """
    folder = Path(folder).absolute()
    for module, read in _READERS.items():
        if folder.is_dir() and module.matches(folder):
            found = read(folder)
            return sorted((one for one in found if split in (None, one.split)), key=lambda one: one.name)
    names = ", ".join(module.__name__.rsplit(".", 1)[1] for module in _READERS)
    raise InputError(folder, "no data set with sequences", f"one of {names} as officially downloaded")


def _of_slices(module: ModuleType, folder: Path) -> list[LabelledSequence]:
    """Series of samples, each loaded as `prepare` loads it, but for specks: every pixel of a mask counts."""
    source = module.read(folder)
    series: dict[str, list[Sample]] = defaultdict(list)
    for sample in source.samples:
        series[sample.series].append(sample)
    spacings = _msd_spacings(folder, source) if module is msd else {}
    found = []
    for name, samples in series.items():
        samples = sorted(samples, key=lambda sample: sample.slice_index)
        about = (source.name, samples[0].patient, samples[0].split)
        for label in source.classes:
            own = name if len(source.classes) == 1 else f"{name}_{label}"
            load = partial(_load_slices, tuple(samples), label)
            found.append(LabelledSequence(own, *about, label, source.modality, "volume", load, spacings.get(name)))
    return found


def _load_slices(samples: tuple[Sample, ...], label: str) -> LabelledFrames:
    frames, masks = [], []
    for sample in samples:
        pixels, regions = sample.load(every_pixel=True)
        if frames and pixels.shape != frames[0].shape:
            size, first = "x".join(map(str, pixels.shape[:2])), "x".join(map(str, frames[0].shape[:2]))
            raise InputError(sample.name, f"a slice of {size} pixels in a series of {first}", "slices of one size")
        frames.append(pixels)
        parts = [region.mask for region in regions if region.label == label]
        masks.append(np.any([np.zeros(pixels.shape[:2], bool), *parts], axis=0))
    if all(is_grey(pixels) for pixels in frames):
        frames = [pixels[..., 0] for pixels in frames]
    return LabelledFrames(np.stack(frames), np.stack(masks), np.ones(len(masks), bool))


def _msd_spacings(folder: Path, source: Source) -> dict[str, tuple[float, float, float]]:
    """Volume -> spacing of its slices, which are turned so that the file's last remaining axis points up."""
    columns, rows = (axis for axis in range(3) if axis != source.slice_axis)
    spacings = {}
    for volume in {sample.series for sample in source.samples}:
        zooms = open_volume(next((folder / "imagesTr").glob(f"{volume}.nii*"))).header.get_zooms()
        spacings[volume] = tuple(float(zooms[axis]) for axis in (source.slice_axis, rows, columns))
    return spacings


def _sunnybrook(folder: Path) -> list[LabelledSequence]:
    source = sunnybrook.read(folder)
    splits = {sample.patient: sample.split for sample in source.samples}
    studies = sorted((folder / "cine").glob("*.npz"))
    found = []
    for study in studies:
        about = (source.name, study.stem, splits.get(study.stem), "left_ventricle", source.modality)
        labelled, slices, phases = (
            sunnybrook.study_array(study, name) for name in ("has_lv", "slice_index", "phase_index")
        )
        for index in np.unique(slices[labelled]).tolist():
            order = np.flatnonzero(slices == index)
            load = partial(_load_study, study, tuple(order[np.argsort(phases[order])].tolist()))
            found.append(LabelledSequence(f"{study.stem}_slice{index:02d}", *about, "video", load))
        spacing = _study_spacing(study)
        for index in np.unique(phases[labelled]).tolist():
            order = np.flatnonzero(phases == index)
            load = partial(_load_study, study, tuple(order[np.argsort(slices[order])].tolist()))
            found.append(LabelledSequence(f"{study.stem}_phase{index:02d}", *about, "volume", load, spacing))
    with_study = {study.stem for study in studies}
    by_phase: dict[tuple[str, int], list[Sample]] = defaultdict(list)
    for sample in source.samples:
        if sample.series is None and sample.patient not in with_study:
            by_phase[sample.patient, (_frame_number(sample) - 1) % _PHASES].append(sample)
    for (patient, phase), samples in by_phase.items():
        about = (source.name, patient, splits.get(patient), "left_ventricle", source.modality)
        load = partial(_load_slices, tuple(sorted(samples, key=_frame_number)), "left_ventricle")
        found.append(LabelledSequence(f"{patient}_phase{phase:02d}", *about, "volume", load))
    return found


def _frame_number(sample: Sample) -> int:
    """127 of SC-HF-NI-34-IM-0001-0127."""
    return int(sample.name.rsplit("-", 1)[1])


def _load_study(study: Path, order: tuple[int, ...]) -> LabelledFrames:
    arrays = (sunnybrook.study_array(study, name) for name in ("frames", "masks", "has_lv"))
    frames, masks, labelled = (array[list(order)] for array in arrays)
    return LabelledFrames(frames, masks == _LEFT_VENTRICLE, labelled)


def _study_spacing(study: Path) -> tuple[float, float, float]:
    rows, columns = sunnybrook.study_array(study, "pixel_spacing").tolist()
    return float(sunnybrook.study_array(study, "slice_thickness")), rows, columns


_READERS: dict[ModuleType, Callable[[Path], list[LabelledSequence]]] = {
    lgg: partial(_of_slices, lgg),
    msd: partial(_of_slices, msd),
    sunnybrook: _sunnybrook,
}
