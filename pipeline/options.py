"""What the options of a command may be: the words of the command line become values, or are refused."""

from __future__ import annotations

import argparse
import math

#: What --axis may be called, and the patient's axis it means.
_AXES = {"0": 0, "1": 1, "2": 2, "sagittal": 0, "coronal": 1, "axial": 2}


def class_names(text: str) -> list[str]:
    """`a,b` -> ['a', 'b']."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r}; expected class names, separated by commas")
    return names


def _numbers(text: str) -> list[float]:
    """Finite numbers, separated by commas; none at all where one of them isn't."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return []
    return numbers if all(map(math.isfinite, numbers)) else []


def score(text: str) -> float:
    """A number from 0 to 1."""
    match _numbers(text):
        case [number] if 0 <= number <= 1:
            return number
    raise argparse.ArgumentTypeError(f"{text!r}; expected a number from 0 to 1")


def count(text: str) -> int:
    """A whole number from 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number from 1")
    return int(text)


def box(text: str) -> list[float]:
    """`x,y,width,height` in pixels."""
    match _numbers(text):
        case [x, y, width, height] if width > 0 and height > 0:
            return [x, y, width, height]
    raise argparse.ArgumentTypeError(f"{text!r}; expected x,y,width,height in pixels, width and height above 0")


def axis(text: str) -> int:
    """The patient's axis: 0 right, 1 front, 2 head; or the name of the slices across it."""
    if text.lower() not in _AXES:
        raise argparse.ArgumentTypeError(f"{text!r}; expected 0 (sagittal), 1 (coronal) or 2 (axial)")
    return _AXES[text.lower()]


def window(text: str) -> tuple[float, float]:
    """`centre,width` of intensities."""
    match _numbers(text):
        case [centre, width] if width > 0:
            return centre, width
    raise argparse.ArgumentTypeError(f"{text!r}; expected center,width, the width above 0")


def seconds(text: str) -> float:
    """A time above 0."""
    match _numbers(text):
        case [number] if number > 0:
            return number
    raise argparse.ArgumentTypeError(f"{text!r}; expected a number of seconds above 0")
