"""A folder of numbered pictures: the frames of a video, or the slices of a stack without spacing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.errors import InputError
from pipeline.readers import picture
from pipeline.readers.content import PICTURE_SUFFIXES, content_of
from pipeline.readers.movie import Movie, gather


def frame_files(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of the numbers in their names: frame 9 before frame 10."""
    found = (
        path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")
    )
    return sorted(found, key=_in_order)


def read(folder: Path) -> Movie:
    """The pictures of a folder as frames; grey where none has colours.

    Raises
    ------
    InputError
        Where there is none, one can't be read, or their sizes differ.
    """
    files = frame_files(folder)
    if not files:
        raise InputError(folder, "a folder without frames", "numbered PNG, JPEG or TIFF files of one size")
    frames = gather(folder, _pixels(files))
    grey = all((frame == frame[..., :1]).all() for frame in frames)
    return Movie(frames[..., 0] if grey else frames)


def _pixels(files: list[Path]) -> Iterator[np.ndarray]:
    first = None
    for path in files:
        if content_of(path) != "picture":
            raise InputError(path, "no picture, whatever its name says", "PNG, JPEG or TIFF frames")
        pixels = picture.read(path).pixels
        first = pixels.shape if first is None else first
        if pixels.shape != first:
            found = f"{pixels.shape[1]}x{pixels.shape[0]} pixels, {files[0].name} has {first[1]}x{first[0]}"
            raise InputError(path, found, "frames of one size")
        yield pixels


def _in_order(path: Path) -> list:
    """Numbers count as numbers; text and numbers never meet at the same place."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", path.name)]
