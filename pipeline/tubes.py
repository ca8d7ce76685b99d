"""Link a detector's boxes of neighbouring slices or frames into tubes: one tube an object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.geometry import box_iou
from pipeline.results import Detections

#: Frames from and to, and bool (boxes there, boxes here): which of them overlap.
_Edge = tuple[int, int, np.ndarray]


@dataclass(frozen=True)
class Linking:
    """How boxes become tubes.

    Attributes
    ----------
    overlap : least IoU of two boxes in a row
    gap : frames that an object may be missed in a row, of those that were looked at; its boxes there lie between their
        neighbours'
    going_on : a tube goes on through boxes whose score is at least this share of what an object needs to be found
    """

    overlap: float = 0.1
    gap: int = 1
    going_on: float = 0.8


@dataclass(frozen=True, eq=False)
class Tube:
    """One object's boxes, one a frame from its first to its last.

    Attributes
    ----------
    class_id : as in config.json
    first : the first frame
    boxes : float32 (F, 4) xyxy in pixels of the image, of the frames first..first + F - 1
    scores : float32 (F,), 0..1; 0 where the detector saw nothing
    """

    class_id: int
    first: int
    boxes: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def frames(self) -> range:
        return range(self.first, self.first + len(self))

    def box(self, frame: int) -> np.ndarray:
        """float32 (4,), xyxy, in a frame of its span."""
        return self.boxes[frame - self.first]

    def score(self, frame: int) -> float:
        """0..1, in a frame of its span."""
        return float(self.scores[frame - self.first])

    @property
    def stability(self) -> np.ndarray:
        """float64 (F,): mean IoU of each box with its neighbours', 0..1; 1 for a tube of one frame."""
        if len(self) == 1:
            return np.ones(1)
        between = np.diag(box_iou(self.boxes[:-1], self.boxes[1:]))
        return (np.append(between, between[-1]) + np.insert(between, 0, between[0])) / 2


def link(found: Mapping[int, Detections], least: Mapping[int, float], linking: Linking = Linking()) -> list[Tube]:
    """Tubes through the boxes of some frames, the best first.

    Of all chains of overlapping boxes the one with the largest sum of scores becomes a tube, and what overlaps it is
    taken away (Seq-NMS, Han et al. 2016). Its ends are cut back to where the scores are good enough. A tube counts if
    one of its boxes reaches the score that its class needs.

    Parameters
    ----------
    found
        Frame -> all its boxes, weak ones too; in between may be frames that the detector did not look at.
    least
        Class id -> the score that one box of a tube has to reach, 0..1.
    """
    tubes = []
    looked_at = sorted(found)
    for class_id, needed in least.items():
        rows = [np.flatnonzero(found[frame].class_ids == class_id) for frame in looked_at]
        boxes = [found[frame].boxes[keep] for frame, keep in zip(looked_at, rows, strict=True)]
        scores = [found[frame].scores[keep] for frame, keep in zip(looked_at, rows, strict=True)]
        for chain in _chains(boxes, scores, needed, linking):
            known = [looked_at[place] for place, _ in chain]
            corners = np.stack([boxes[place][index] for place, index in chain])
            tubes.append(_tube(class_id, known, corners, [scores[place][index] for place, index in chain]))
    return sorted(tubes, key=lambda tube: -tube.scores.sum())


def _chains(
    boxes: list[np.ndarray], scores: list[np.ndarray], needed: float, linking: Linking
) -> list[list[tuple[int, int]]]:
    """Chains of (place, box), a place being a frame's in the order of those that were looked at."""
    free = [np.ones(len(of_frame), bool) for of_frame in scores]
    forwards = [
        (before, frame, box_iou(boxes[before], boxes[frame]) >= linking.overlap)
        for before in range(len(boxes))
        for frame in range(before + 1, min(before + linking.gap + 2, len(boxes)))
        if len(boxes[before]) and len(boxes[frame])
    ]
    backwards = sorted(((after, frame, near.T) for frame, after, near in forwards), key=lambda edge: -edge[0])
    kept = []
    while any((of_frame[keep] >= needed).any() for of_frame, keep in zip(scores, free, strict=True)):
        chain = _best_chain(scores, free, (forwards, backwards), needed)
        kept.append(_cut_back(chain, scores, needed * linking.going_on, linking.gap))
        for frame, index in chain:
            free[frame] &= box_iou(boxes[frame][index : index + 1], boxes[frame])[0] < linking.overlap
            free[frame][index] = False
    return kept


def _best_chain(
    scores: list[np.ndarray], free: list[np.ndarray], edges: tuple[list[_Edge], list[_Edge]], needed: float
) -> list[tuple[int, int]]:
    """(frame, box) of the chain with the largest sum of scores that holds a box of the `needed` score.

    Sums towards the start and towards the end are added at each box, so the best chain through any box is known.
    """
    own = [np.where(keep, of_frame, 0).astype(np.float64) for of_frame, keep in zip(scores, free, strict=True)]
    (before, came_from), (after, goes_to) = (_best_sums(own, free, of_direction) for of_direction in edges)
    _, frame, index = max(
        (own[frame][index] + before[frame][index] + after[frame][index], frame, int(index))
        for frame in range(len(scores))
        for index in np.flatnonzero(free[frame] & (scores[frame] >= needed))
    )
    chain = [(frame, index)]
    while (link_back := came_from.get(chain[0])) is not None:
        chain.insert(0, link_back)
    while (link_on := goes_to.get(chain[-1])) is not None:
        chain.append(link_on)
    return chain


def _best_sums(
    own: list[np.ndarray], free: list[np.ndarray], edges: list[_Edge]
) -> tuple[list[np.ndarray], dict[tuple[int, int], tuple[int, int]]]:
    """The best sum of scores of a chain that leads to each box, and each box's neighbour in it.

    Edges are in such an order that all that lead to a frame come before those that start there.
    """
    best = [np.zeros(len(of_frame)) for of_frame in own]
    neighbour: dict[tuple[int, int], tuple[int, int]] = {}
    for start, end, near in edges:
        allowed = near.T & free[end][:, None] & free[start]
        reached = np.where(allowed, own[start] + best[start], 0)
        for index in np.flatnonzero(reached.max(1) > best[end]):
            best[end][index] = reached[index].max()
            neighbour[end, int(index)] = start, int(reached[index].argmax())
    return best, neighbour


def _cut_back(chain: list[tuple[int, int]], scores: list[np.ndarray], least: float, gap: int) -> list[tuple[int, int]]:
    """The chain around its surest box, as far as boxes reach `least` with no more than `gap` frames between them."""
    sure = [scores[frame][index] for frame, index in chain]
    good = [number for number, score in enumerate(sure) if score >= least]
    middle = good.index(int(np.argmax(sure)))
    far = [number for number in range(1, len(good)) if chain[good[number]][0] - chain[good[number - 1]][0] > gap + 1]
    first = max((number for number in far if number <= middle), default=0)
    last = min((number for number in far if number > middle), default=len(good))
    return chain[good[first] : good[last - 1] + 1]


def _tube(class_id: int, known: list[int], corners: np.ndarray, scores: list[float]) -> Tube:
    """A tube with a box in every frame; those between two known frames lie between their boxes, corners (K, 4)."""
    frames = np.arange(known[0], known[-1] + 1)
    boxes = np.stack([np.interp(frames, known, corner) for corner in corners.T], axis=1).astype(np.float32)
    of_frames = np.zeros(len(frames), np.float32)
    of_frames[np.array(known) - known[0]] = scores
    return Tube(class_id, known[0], boxes, of_frames)
