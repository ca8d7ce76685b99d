"""What the readers of videos return, and how they gather frames without holding them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import InputError
from pipeline.scratch import array_of, check_room, scratch_file

#: All frames of a video together: 640x480 pixels in 6,500 frames, three and a half minutes at 30 a second.
MAX_PIXELS = 2_000_000_000
#: Frames whose size is only known when they are written: how often the disk is looked at.
_ROOM_EVERY = 64


@dataclass(frozen=True, eq=False)
class Movie:
    """Frames in order.

    Attributes
    ----------
    frames : uint8 (N, H, W) grey or (N, H, W, 3) RGB, 0..255
    frame_seconds : time between two frames; None where unknown
    spacing_mm : (row, column) distance of pixel centres in mm; None where unknown
    notes : sentences that a person should read
    """

    frames: np.ndarray
    frame_seconds: float | None = None
    spacing_mm: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


def check_length(path: Path, frames: int, height: int, width: int) -> None:
    """Refuse a video by its size, before its frames are decoded or while they are."""
    if frames * height * width > MAX_PIXELS:
        most = max(1, MAX_PIXELS // (height * width))
        found = f"a video of more than {most} frames of {width}x{height} pixels"
        raise InputError(path, found, f"at most {MAX_PIXELS // 10**6} million pixels in all frames. Cut it first.")


def gather(path: Path, frames: Iterable[np.ndarray]) -> np.ndarray:
    """Frames, uint8 (H, W) or (H, W, 3) each, as one array; a long video's lies in a temporary file.

    Raises
    ------
    InputError
        Where there is none, they are of different sizes, or more than the limit or the disk can hold.
    """
    shape, count = None, 0
    with scratch_file(path) as file:
        for frame in frames:
            if shape is not None and frame.shape != shape:
                found = (
                    f"frame {count + 1} has {frame.shape[1]}x{frame.shape[0]} pixels, the first {shape[1]}x{shape[0]}"
                )
                raise InputError(path, found, "frames of one size")
            shape, count = frame.shape, count + 1
            check_length(path, count, *shape[:2])
            if count % _ROOM_EVERY == 1:
                check_room(path, frame.size * _ROOM_EVERY)
            file.write(np.ascontiguousarray(frame).data)
        if shape is None:
            raise InputError(path, "a video without frames", "at least one frame")
        return array_of(file, (count, *shape), np.uint8)
