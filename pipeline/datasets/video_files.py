"""Frames of video files: one video is held at a time, however many of its frames are asked for."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from pipeline.errors import InputError
from pipeline.stack import Stack, read_stack


def load_frame(path: Path, index: int) -> np.ndarray:
    """uint8 RGB (H, W, 3) of frame `index`, from 0, of a video as it is read everywhere else."""
    video = _video(path)
    if not 0 <= index < len(video):
        raise InputError(path, f"a video of {len(video)} frames, of which frame {index} is labelled", "one of them")
    return video.pixels(index)


@lru_cache(maxsize=1)
def _video(path: Path) -> Stack:
    """A long one lies in a temporary file, which goes when the next one comes."""
    return read_stack(path)
