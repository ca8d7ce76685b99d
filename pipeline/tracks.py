"""What segmenting a volume or a video returns: objects, each with a mask in every slice or frame of its span."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pycocotools import mask as coco_mask


@dataclass(frozen=True, eq=False)
class Track:
    """One object through slices or frames.

    Attributes
    ----------
    label, class_id : as in config.json
    score : of its surest detection, 0..1
    key_frames : where a detection prompted it, ascending
    rles : frame -> COCO RLE of its mask in the original image; frames where nothing of it lies are left out
    frame_scores : frame -> how sure the network is that it is there, 0..1
    """

    label: str
    class_id: int
    score: float
    key_frames: tuple[int, ...]
    rles: Mapping[int, dict]
    frame_scores: Mapping[int, float] = field(default_factory=dict)

    @property
    def span(self) -> tuple[int, int]:
        """First and last frame with a mask."""
        return min(self.rles), max(self.rles)

    def area_px(self, index: int) -> int:
        """Pixels of the mask in frame `index`; 0 where nothing of the object lies."""
        return int(coco_mask.area(self.rles[index])) if index in self.rles else 0


@dataclass(frozen=True, eq=False)
class Tracking:
    """The objects of a `Stack`, surest first; none is a result, too.

    Attributes
    ----------
    shape : (N, H, W) of the stack
    memory : whether masks were carried by MedSAM2's memory, or each frame was segmented by itself
    timings_ms : wall milliseconds: read, detect, embed, memory, decode, post, total
    """

    shape: tuple[int, int, int]
    tracks: tuple[Track, ...]
    precision: str
    weights: dict[str, str]
    memory: bool = False
    timings_ms: Mapping[str, float] = field(default_factory=dict)

    def mask(self, track: int, index: int) -> np.ndarray:
        """bool (H, W): object `track` in frame `index`."""
        rle = self.tracks[track].rles.get(index)
        return coco_mask.decode(rle).astype(bool) if rle is not None else np.zeros(self.shape[1:], bool)

    def label_map(self, index: int) -> np.ndarray:
        """uint8 (H, W): class ids of frame `index`, the surest object on top, 0 where nothing lies."""
        return self._painted(index, [track.class_id for track in self.tracks], np.dtype(np.uint8))

    def object_map(self, index: int) -> np.ndarray:
        """(H, W): numbers of the objects in frame `index`, from 1 in the order of `tracks`, of type `object_type`."""
        return self._painted(index, range(1, len(self.tracks) + 1), self.object_type)

    @property
    def object_type(self) -> np.dtype:
        """uint8, or uint16 where there are more than 255 objects."""
        return np.dtype(np.uint8 if len(self.tracks) < 256 else np.uint16)

    def in_frame(self, index: int) -> list[int]:
        """Numbers of the tracks that have a mask in frame `index`, surest first."""
        return [number for number, track in enumerate(self.tracks) if index in track.rles]

    def _painted(self, index: int, values: Sequence[int], dtype: np.dtype) -> np.ndarray:
        painted = np.zeros(self.shape[1:], dtype)
        for number in reversed(self.in_frame(index)):
            painted[self.mask(number, index)] = values[number]
        return painted
