"""What nnU-Net sees at once: an image, or the slices of a volume in their order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np

from pipeline.datasets import Sample, Source
from pipeline.datasets.image_files import is_grey
from pipeline.errors import InputError
from pipeline.geometry import union_of


@dataclass(frozen=True)
class Case:
    """One image or volume.

    Attributes
    ----------
    samples : one image, or every slice of a volume
    volume : whether it is one
    """

    name: str
    samples: tuple[Sample, ...]
    volume: bool

    def load(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (channels, D, H, W), as our own networks see it, and its truth, uint8 0 or 1 (D, H, W); D is 1 for an
        image. Specks are in, as in the evaluation."""
        loaded = [sample.load(every_pixel=True) for sample in self.samples]
        truths = [union_of((region.mask for region in regions), pixels.shape[:2]) for pixels, regions in loaded]
        stack = np.stack([pixels for pixels, _ in loaded]).transpose(3, 0, 1, 2)
        return stack[:channels], np.stack(truths).astype(np.uint8)


def cases_of(source: Source, split: str) -> list[Case]:
    """The cases of a split: a volume where the source has a slice axis, else every image by itself."""
    samples = [sample for sample in source.samples if sample.split == split]
    if source.slice_axis is None:
        return [Case(sample.name, (sample,), False) for sample in samples]
    ordered = sorted(samples, key=lambda sample: (sample.series, sample.slice_index))
    return [Case(name, tuple(slices), True) for name, slices in groupby(ordered, key=lambda sample: sample.series)]


def channels_of(cases: list[Case]) -> int:
    """1 where the first cases are grey, else 3."""
    looks = [case.samples[len(case.samples) // 2].load()[0] for case in cases[:20]]
    return 1 if all(map(is_grey, looks)) else 3


def split_cases(source: Source) -> tuple[list[Case], list[Case]]:
    """Train and val cases; raises InputError where there are none, or more classes than one."""
    if len(source.classes) != 1:
        raise InputError(source.name, f"{len(source.classes)} classes", "a source with one class, as in the table")
    splits = [cases_of(source, split) for split in ("train", "val")]
    for split, cases in zip(("train", "val"), splits, strict=True):
        if not cases:
            raise InputError(source.name, f"no image is in {split}", "images in train and val, see its splits.csv")
    return splits[0], splits[1]
