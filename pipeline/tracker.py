"""Volumes and videos without any prompt: the detector finds an object, and it is followed through slices or frames.

The detector looks at the slices or frames, its boxes are linked into tubes (`pipeline.tubes`), one an object, and each
tube's boxes prompt MedSAM2 in every frame of its span; masks of slices within a millimetre or two are averaged. Where
the release says that it helps a class, MedSAM2's memory (`pipeline.memory`) carries the mask from the tube's surest
frames through the others, both ways.

All frames are looked at through one window, the surroundings of all that was found, so that a frame is embedded once,
whatever the number of objects, and masks of neighbouring frames lie on the same grid.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from pipeline.auto_segmenter import AutoSegmenter
from pipeline.geometry import Resize
from pipeline.propagation import View, agreed, carried, key_frames
from pipeline.results import Detections
from pipeline.rle import encode_mask
from pipeline.stack import Stack
from pipeline.tracks import Track, Tracking
from pipeline.tubes import Linking, Tube, link

#: The detector looks at slices this far apart, in mm, or at this many frames a second; at all of them where unknown.
_SLICE_STEP_MM = 1.0
_FRAMES_A_SECOND = 10.0
#: Slices along each axis that are looked at to choose one.
_AXIS_SLICES = 4
#: What an object's surest box needs, whatever its class needs in an image: many frames are many chances to be wrong.
_LEAST = 0.25
#: Room that the common window leaves around where objects move.
_ROOM = 1.3

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Rules:
    """How a release tracks: `tracking` in its config.json, each chosen on val.

    Attributes
    ----------
    linking : how boxes become tubes
    sureness : what an object's best box needs, in shares of the least score of an image's box of its class
    rivals : class name -> share of the best tube's sum of scores that another of its class needs; for a class that is
        left out, the share of the surest box that another box of an image needs
    memory : names of the classes whose masks memory carries; those of the others are outlined frame by frame
    """

    linking: Linking = field(default_factory=Linking)
    sureness: float = 1.0
    rivals: dict[str, float] = field(default_factory=dict)
    memory: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, config: dict) -> Rules:
        settings = dict(config.get("tracking", {}))
        memory = tuple(settings.pop("memory", ()))
        return cls(Linking(**settings.pop("linking", {})), memory=memory, **settings)


class Tracker:
    """Finds objects in a stack and outlines them in each of its slices or frames.

    >>> track = Tracker(AutoSegmenter.from_release())
    >>> found = track(read_stack("scan.nii.gz"))
    >>> found.tracks[0].label, found.tracks[0].span, found.mask(0, 12).shape
    """

    def __init__(self, segmenter: AutoSegmenter):
        self.segmenter = segmenter
        self.rules = Rules.from_config(segmenter.release.config)
        self.memory = segmenter.memory

    def __call__(
        self,
        stack: Stack,
        *,
        classes: Sequence[str] | None = None,
        min_score: float | None = None,
        progress: Progress | None = None,
    ) -> Tracking:
        """Track through one stack.

        Parameters
        ----------
        classes
            Names of the classes to look for; None for all.
        min_score
            Least score of an object's surest box, 0..1; None takes the release's own of each class, but 0.25 at least.
        progress
            Called with (frames done, frames in all); what it raises stops the work.

        Raises
        ------
        InputError
            For an unknown class.
        """
        clock = _Clock()
        least = self._least(self.segmenter.class_ids(classes), min_score)
        looks = range(0, len(stack), _step(stack))
        count = _Count(progress, 2 * len(stack))
        with clock("detect"):
            found = {}
            for frame, boxes in self.segmenter.frame_networks.propose(stack, looks):
                found[frame] = boxes
                count(looks.step)
            found |= self._look_at_ends(stack, found, least)
        tubes = self._objects(link(found, least, self.rules.linking))
        count.reach(len(stack))
        tracks = self._outline(stack, tubes, clock, count) if tubes else ()
        count.reach(2 * len(stack))
        return Tracking(
            shape=(len(stack), *stack.size),
            tracks=tracks,
            precision=self.segmenter.precision,
            weights=self.segmenter.release.identity,
            memory=any(track.label in self.rules.memory for track in tracks) and self.memory is not None,
            timings_ms=clock.milliseconds,
        )

    def _least(self, class_ids: Sequence[int] | None, min_score: float | None) -> dict[int, float]:
        """Class id -> what the surest box of an object needs."""
        detector, sureness = self.segmenter.detector, self.rules.sureness
        own = zip(detector.class_ids.tolist(), detector.thresholds.tolist(), strict=True)
        wanted = {class_id: score for class_id, score in own if class_ids is None or class_id in class_ids}
        return {
            class_id: min(max(sureness * score, _LEAST), 0.95) if min_score is None else min_score
            for class_id, score in wanted.items()
        }

    def _look_at_ends(
        self, stack: Stack, found: dict[int, Detections], least: dict[int, float]
    ) -> dict[int, Detections]:
        """Boxes of the frames just beyond the ends of the tubes, which the detector's steps left out."""
        step = _step(stack)
        if step == 1:
            return {}
        ends = {end for tube in link(found, least, self.rules.linking) for end in (tube.frames[0], tube.frames[-1])}
        near = {frame for end in ends for frame in range(end - step + 1, end + step) if 0 <= frame < len(stack)}
        return dict(self.segmenter.frame_networks.propose(stack, sorted(near - found.keys())))

    def _objects(self, tubes: list[Tube]) -> list[Tube]:
        """The tubes, best first, without those that the best of their class outdoes by far."""
        detector = self.segmenter.detector
        shares = dict(zip(detector.class_ids.tolist(), detector.best_shares.tolist(), strict=True))
        best: dict[int, float] = {}
        kept = []
        for tube in tubes:
            of_class = best.setdefault(tube.class_id, float(tube.scores.sum()))
            share = self.rules.rivals.get(self._label(tube), shares[tube.class_id])
            if tube.scores.sum() >= share * of_class:
                kept.append(tube)
        return kept[: self.segmenter.detector.max_detections]

    def _outline(self, stack: Stack, tubes: list[Tube], clock: _Clock, count: _Count) -> tuple[Track, ...]:
        """Masks of all tubes; memory carries those of the classes that it helps."""
        segmenter, (height, width) = self.segmenter.segmenter, stack.size
        window = common_window(tubes, width, height, segmenter.size, segmenter.surroundings)
        view = View(stack, window, segmenter, self.segmenter.frame_networks, clock)
        tubes = [tube for tube in tubes if not self._of_another_kind(tube, view)]
        by_memory = [tube for tube in tubes if self.memory and self._label(tube) in self.rules.memory]
        alone = [tube for tube in tubes if tube not in by_memory]
        keys = [key_frames(tube, self.rules.sureness * self._threshold(tube)) for tube in by_memory]
        rles: dict[Tube, dict[int, dict]] = {tube: {} for tube in tubes}
        ways = [(alone, agreed(alone, view))]
        if self.memory:
            ways.append((by_memory, carried(by_memory, keys, view, self.memory)))
        work = sum(len(tube) for tube in tubes)
        for of_way, masks in ways:
            for number, frame, logits in masks:
                with clock("post"):
                    mask = window.mask_back(self._shaped(logits, of_way[number], frame, window))
                    if mask.any():
                        rles[of_way[number]][frame] = encode_mask(mask)
                count(len(stack) / work)
        prompted = dict(zip(by_memory, keys, strict=True))
        tracks = [self._track(tube, prompted.get(tube), of_tube) for tube, of_tube in rles.items() if of_tube]
        return tuple(sorted(tracks, key=lambda track: -track.score))

    def _shaped(self, logits: np.ndarray, tube: Tube, frame: int, window: Resize) -> np.ndarray:
        """Mask logits (G, G) of a frame, as the class of their tube has them."""
        box = window.boxes_in_cells(tube.box(frame)[None], len(logits))
        return self.segmenter.shapes.of(logits[None], [self._label(tube)], box)[0]

    def _of_another_kind(self, tube: Tube, view: View) -> bool:
        """Whether its surest frame shows a kind of image that its class is not found in."""
        scope = self.segmenter.scope
        if scope is None or not len(scope.kinds):
            return False
        distances = scope.distances(view.embedding(tube.first + int(tube.scores.argmax())))
        return tube.class_id in scope.other_kinds(distances)

    def _label(self, tube: Tube) -> str:
        return self.segmenter.class_names[tube.class_id]

    def _threshold(self, tube: Tube) -> float:
        """The release's own least score of a tube's class."""
        detector = self.segmenter.detector
        return float(detector.thresholds[detector.class_ids == tube.class_id][0])

    def _track(self, tube: Tube, keys: tuple[int, ...] | None, rles: dict[int, dict]) -> Track:
        """`keys` prompted it; None where each of its boxes did."""
        prompted = tube.frames if keys is None else keys
        return Track(
            label=self._label(tube),
            class_id=tube.class_id,
            score=float(tube.scores.max()),
            key_frames=tuple(frame for frame in prompted if tube.score(frame) > 0),
            rles=dict(sorted(rles.items())),
            frame_scores={frame: tube.score(frame) for frame in sorted(rles)},
        )


def choose_axis(stack: Stack, segmenter: AutoSegmenter, classes: Sequence[str] | None = None) -> Stack:
    """A volume cut along the axis in whose slices the detector is surest; a few slices of each axis are looked at.

    For voxels that are about as long in all directions, whose file does not say how it is looked at; every other stack
    comes back as it is. What is found of a class that the weights know along one axis (`slicing` in config.json) is
    looked at along that one.
    """
    if stack.grid is None or stack.grid.thinnest is not None:
        return stack
    wanted, slicing = segmenter.class_ids(classes), segmenter.release.config.get("slicing", {})
    sureness: Counter[tuple[int, int]] = Counter()
    for axis in range(3):
        along = stack.along(axis)
        looks = (np.linspace(0.2, 0.8, _AXIS_SLICES) * (len(along) - 1)).round().astype(int).tolist()
        for _, found in segmenter.frame_networks.propose(along, looks):
            for class_id in np.unique(found.class_ids).tolist():
                if wanted is None or class_id in wanted:
                    sureness[axis, class_id] += float(found.scores[found.class_ids == class_id].max())
    if not sureness:
        return stack
    axis, class_id = max(sureness, key=sureness.get)
    return stack.along(slicing.get(segmenter.class_names[class_id], {}).get("axis", axis))


def common_window(tubes: Sequence[Tube], width: int, height: int, size: int, surroundings: float | None) -> Resize:
    """The part of every frame that the segmenter looks at: all boxes, and the longest one with its surroundings."""
    boxes = np.concatenate([tube.boxes for tube in tubes])
    if surroundings is None:
        return Resize.plan(width, height, size, "squash")
    union = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])
    extent = (union[2:] - union[:2]).max()
    longest = (boxes[:, 2:] - boxes[:, :2]).max()
    return Resize.around(union[None], width, height, size, max(_ROOM, surroundings * longest / extent))


def _step(stack: Stack) -> int:
    """The detector looks at every so manyth frame."""
    if stack.kind == "video":
        return max(1, int(1 / (stack.frame_seconds * _FRAMES_A_SECOND))) if stack.frame_seconds else 1
    return max(1, int(_SLICE_STEP_MM / stack.spacing_mm[0])) if stack.spacing_mm else 1


class _Clock:
    """Wall milliseconds a stage, and since the start."""

    def __init__(self):
        self.start, self.stages = perf_counter(), Counter()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = perf_counter()
        yield
        self.stages[stage] += (perf_counter() - start) * 1000

    @property
    def milliseconds(self) -> dict[str, float]:
        return {**self.stages, "total": (perf_counter() - self.start) * 1000}


class _Count:
    """Frames done, told to whoever wants to know."""

    def __init__(self, progress: Progress | None, total: int):
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self, more: float) -> None:
        self.reach(self.done + more)

    def reach(self, done: float) -> None:
        self.done = min(max(done, self.done), self.total)
        if self.progress:
            self.progress(int(self.done), self.total)
