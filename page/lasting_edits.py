"""Corrections that outlast another choice of options.

An edit names its region by the number that it has at that moment; with another precision, other classes or another
score other regions are found, and the numbers are others. So the page notes of each edit which region it was about, and
tells the edits anew for what is found then. What a person corrected stays, found again or not; what was deleted and is
found again is deleted again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from pipeline.edits import Edit, read_edits
from pipeline.errors import InputError
from pipeline.geometry import box_iou, xywh_to_xyxy, xyxy_to_xywh
from pipeline.results import Segmentation

#: Boxes of one region, found with two choices of options, share at least this much: IoU.
_SAME = 0.5
_FORM = '{"label": "a class", "box": [x, y, width, height]} or {"added": 1}'


@dataclass(frozen=True)
class Found:
    """A region that was found, as it was then: its box is [x, y, width, height] in pixels of the image."""

    label: str
    box: tuple[float, float, float, float]

    def to_json(self) -> dict:
        return {"label": self.label, "box": list(self.box)}


@dataclass(frozen=True)
class Added:
    """A region that a person added, the first, the second ..."""

    number: int

    def to_json(self) -> dict:
        return {"added": self.number}


@dataclass(frozen=True)
class Noted:
    """An edit and the region that it is about."""

    edit: Edit
    about: Found | Added

    def to_json(self) -> dict:
        return {**self.edit.to_json(), "about": self.about.to_json()}


def note(given: object, found: Segmentation) -> tuple[Noted, ...]:
    """The edits of a browser, JSON, with what each is about; new ones tell their region by its number alone.

    Parameters
    ----------
    found
        What the networks found with the options of now, uncorrected.

    Raises
    ------
    InputError
        For what `read_edits` refuses, and a region that is not there.
    """
    told = [dict(edit) if isinstance(edit, dict) else edit for edit in given] if isinstance(given, list) else given
    about = [edit.pop("about", None) if isinstance(edit, dict) else None for edit in told or ()]
    noted: list[Noted] = []
    for number, (edit, subject) in enumerate(zip(read_edits(told), about, strict=True), start=1):
        if edit.action == "add":
            subject = Added(sum(each.edit.action == "add" for each in noted) + 1)
        elif subject is None:
            _, regions = _walk(noted, found)
            if edit.region > len(regions):
                there = f"1 to {len(regions)}" if regions else "none here"
                raise InputError(f"region {edit.region}", "no such region", there)
            subject = regions[edit.region - 1]
        else:
            subject = _subject(f"edit {number}", subject)
        noted.append(Noted(edit, subject))
    return tuple(noted)


def retell(noted: Iterable[Noted], found: Segmentation) -> tuple[Edit, ...]:
    """The same corrections for what is found with other options, so that `correct_all` and /correct can apply them.

    A region that was corrected and is not found any more is added by its box and corrected again.
    """
    return _walk(tuple(noted), found)[0]


def _walk(noted: Iterable[Noted], found: Segmentation) -> tuple[tuple[Edit, ...], list[Found | Added]]:
    """The edits with the numbers of now, and what each region is after them."""
    regions = _recognised(noted, found)
    deleted = {each.about for each in noted if each.edit.action == "delete"}
    edits = []
    for edit, about in ((each.edit, each.about) for each in noted):
        if edit.action == "add":
            regions.append(about)
        elif about not in regions:
            if about in deleted or isinstance(about, Added):
                continue
            edits.append(Edit("add", box=about.box, label=about.label))
            regions.append(about)
        if edit.action != "add":
            edit = replace(edit, region=regions.index(about) + 1)
        edits.append(edit)
        if edit.action == "delete":
            regions.remove(about)
    return tuple(edits), regions


def _recognised(noted: Iterable[Noted], found: Segmentation) -> list[Found | Added]:
    """What was found, region by region; one that an edit is about as that edit knows it."""
    boxes = found.detections.boxes
    rounded = xyxy_to_xywh(boxes).astype(np.float64).round(2).tolist()
    regions = [Found(label, tuple(box)) for label, box in zip(found.labels, rounded, strict=True)]
    known = list({each.about: None for each in noted if isinstance(each.about, Found)})
    if not known or not regions:
        return regions
    shared = box_iou(xywh_to_xyxy(np.array([each.box for each in known])).astype(np.float32), boxes)
    same = np.array([[each.label == label for label in found.labels] for each in known])
    left = [True] * len(regions)
    for place in np.argsort(-(shared + same), axis=None, kind="stable"):
        old, new = divmod(int(place), len(regions))
        if known[old] and left[new] and shared[old, new] >= _SAME:
            regions[new], known[old], left[new] = known[old], None, False
    return regions


def _subject(name: str, given: object) -> Found | Added:
    match given:
        case {"added": int(number)}:
            return Added(number)
        case {"label": str(label), "box": list(box)}:
            [edit] = read_edits([{"action": "add", "box": box}])
            return Found(label, edit.box)
    raise InputError(name, f"about {given!r}", _FORM)
