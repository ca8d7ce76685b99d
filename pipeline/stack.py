"""Many images in order: the slices of a volume, or the frames of a video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np


@dataclass(frozen=True, eq=False)
class Stack:
    """The slices of a volume along one axis, or the frames of a video, each as a person would look at it.

    Attributes
    ----------
    path : the file or folder it came from
    kind : "volume" or "video"
    frames : uint8 (N, H, W) grey or (N, H, W, 3) RGB, 0..255; may be a `numpy.memmap` of a file that is gone when the
        stack is, so that its length does not matter for the memory
    spacing_mm : (between slices, row, column) distances of centres in mm; None where unknown
    frame_seconds : time between two frames; None for volumes and where unknown
    axis : for volumes the patient's axis that the slices are cut along: 0 right, 1 front, 2 head
    notes : sentences that a person should read, such as on slices that are missing
    """

    path: Path
    kind: Literal["volume", "video"]
    frames: np.ndarray
    spacing_mm: tuple[float, float, float] | None = None
    frame_seconds: float | None = None
    axis: int | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        frames = self.frames
        if frames.dtype != np.uint8 or frames.shape[3:] not in ((), (3,)) or frames.ndim < 3 or not frames.size:
            raise ValueError(f"Stack.frames: {frames.dtype} {frames.shape}; expected uint8 (N, H, W) or (N, H, W, 3)")

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.pixels(index) for index in range(len(self)))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of a frame."""
        return self.frames.shape[1:3]

    def pixels(self, index: int) -> np.ndarray:
        """Frame `index`, uint8 RGB (H, W, 3)."""
        frame = np.asarray(self.frames[index])
        return frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=2)
