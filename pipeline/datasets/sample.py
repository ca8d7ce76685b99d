"""What every reader gives: a list of samples that load themselves when asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Region:
    """One labelled object of an image.

    Attributes
    ----------
    label : class name
    box : float32 (4,), xyxy in pixels of the image
    mask : bool (H, W), or None where the source only gives boxes
    """

    label: str
    box: np.ndarray
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Sample:
    """One image or slice, not loaded yet.

    Attributes
    ----------
    name : unique in its source; becomes a file name
    patient : the unit that a split must not cut
    load : () -> (uint8 RGB (H, W, 3), list of Region); picklable, raises InputError. Specks are left out, since they
        teach nothing; with `every_pixel=True` they are in, since they count in an evaluation.
    split : 'train', 'val' or 'test' where the source says so, else None
    series, slice_index : the sequence that a slice or frame belongs to, and its place there
    """

    name: str
    patient: str
    load: Callable[[], tuple[np.ndarray, list[Region]]]
    split: str | None = None
    series: str | None = None
    slice_index: int | None = None


@dataclass(frozen=True)
class Source:
    """A data set as found in a folder.

    Attributes
    ----------
    name : the folder's name
    classes : class names, in the order of the source's own ids
    missing : names that a list of the source mentions and the folder lacks
    slice_axis : the array axis that volumes are cut along, None for images
    """

    name: str
    modality: str
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    missing: tuple[str, ...] = field(default=())
    slice_axis: int | None = None
