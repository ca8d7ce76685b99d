"""What a row of the table is: asked about an image, it answers with a mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

#: The row whose boxes the rows with "our boxes" take, and that all others are compared with.
REFERENCE = "int8"


@dataclass(frozen=True)
class Outcome:
    """What a row makes of one image.

    Attributes
    ----------
    mask : bool (H, W), the union of what it found of the class
    milliseconds : of the whole method on this image, without reading the file
    boxes : float32 (N, 4) xyxy, the boxes it found of the class; None where it was given boxes
    others : how many boxes of other classes it found
    proposals : [x1, y1, x2, y2, score, label] of every box it considered, surest first; for average precision
    """

    mask: np.ndarray
    milliseconds: float
    boxes: np.ndarray | None = None
    others: int = 0
    proposals: list[list] = field(default_factory=list)


@dataclass(frozen=True)
class Question:
    """One image as a row is asked about it.

    Attributes
    ----------
    sample : its name
    pixels : uint8 RGB (H, W, 3)
    label : the class that is looked for
    true_boxes, our_boxes : float32 (N, 4) xyxy
    true_masks : bool (H, W), one a true region; for rows whose choice is an oracle's
    """

    sample: str
    pixels: np.ndarray
    label: str
    true_boxes: np.ndarray
    our_boxes: np.ndarray
    true_masks: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class Setting:
    """What all rows of a run share.

    Attributes
    ----------
    weights : the release, as `--weights` names it
    threads : CPU threads, None for all cores
    checkpoints : the folder of weights of other projects
    fetch : whether those may be fetched from the Hub
    nnunet : the folder of all nnU-Net work
    """

    weights: str
    threads: int | None
    split: str = "test"
    checkpoints: Path = Path("runs/checkpoints")
    fetch: bool = False
    nnunet: Path = Path("runs/nnunet")


@dataclass(frozen=True)
class Ready:
    """A row whose parts are there.

    Attributes
    ----------
    answer : Question -> Outcome
    bytes : of its weights; None where it has none
    absent : why its masks mean nothing and only size and speed are measured, and how to get its weights; '' else
    """

    answer: Callable[[Question], Outcome]
    bytes: int | None = None
    absent: str = ""


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes
    ----------
    name : for `--rows`, and its file's
    title : what the table calls it
    boxes : 'automatic', 'true', 'ours' (those of the reference row), 'everything' (no box; an oracle takes the best of
        all its masks) or 'none' (it needs none)
    open : gets the row's parts; raises InputError where one is lacking
    of_release : whether its figures depend on the release
    source : the only source that it knows; None for all
    about : what else its figures depend on
    """

    name: str
    title: str
    boxes: str
    open: Callable[[Setting], Ready]
    of_release: bool = True
    source: str | None = None
    about: dict = field(default_factory=dict)
