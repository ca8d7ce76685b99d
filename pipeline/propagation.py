"""Masks of an object in every frame of its tube: each frame by itself, averaged with the slices next to it, or carried
by MedSAM2's memory."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np

from pipeline.frame_networks import FrameNetworks
from pipeline.geometry import Resize
from pipeline.memory import PROMPTED_FRAMES, Memory, MemoryBank
from pipeline.segmenter import Embedding, Segmenter
from pipeline.stack import Stack
from pipeline.tubes import Tube

#: Key frames of a tube lie at least so many frames apart: what is nearer is remembered anyway.
_KEYS_APART = 8
#: One sigma of what slices count for each other, and how many slices away they still do.
_NEAR_MM, _FARTHEST = 1.0, 3
#: Embeddings kept while a stack is walked through, 1 MB each: those of key frames are needed twice.
_KEPT = 2 * PROMPTED_FRAMES

#: `with clock("embed"):` adds to the time of that stage.
Clock = Callable[[str], AbstractContextManager]
#: (number of the tube, frame, mask logits float32 (G, G)) for each mask.
Masks = Iterator[tuple[int, int, np.ndarray]]


class View:
    """A stack's frames as the segmenter sees them, all through one window.

    Parameters
    ----------
    window
        The way between a frame and the encoder's input.
    segmenter
        For one frame on all threads.
    networks
        The same for a frame on each of them.
    """

    def __init__(self, stack: Stack, window: Resize, segmenter: Segmenter, networks: FrameNetworks, clock: Clock):
        self.stack, self.window, self.segmenter, self.clock = stack, window, segmenter, clock
        self.networks = networks
        self._kept: OrderedDict[int, Embedding] = OrderedDict()

    def embedding(self, frame: int) -> Embedding:
        """Of frame `frame`; the last few are kept."""
        if frame not in self._kept:
            with self.clock("embed"):
                image = self.window.image(self.stack.pixels(frame))
                self._kept[frame] = self.segmenter.embed_input(image, self.window)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return self._kept[frame]

    def embeddings(self, frames: Sequence[int]) -> Iterator[tuple[int, Embedding]]:
        """(frame, its embedding) in order; those that follow are computed meanwhile."""

        def embed(frame: int) -> Embedding:
            return self._kept.get(frame) or self.networks.embed(self.stack, frame, self.window)

        coming = self.networks.map(embed, frames)
        while True:
            with self.clock("embed"):
                pair = next(coming, None)
            if pair is None:
                return
            yield pair


def frame_by_frame(tubes: Sequence[Tube], view: View) -> Masks:
    """Each frame by itself, prompted with the tubes' boxes."""
    for frame, embedding in view.embeddings(sorted({frame for tube in tubes for frame in tube.frames})):
        present = [number for number, tube in enumerate(tubes) if frame in tube.frames]
        with view.clock("decode"):
            boxes = np.stack([tubes[number].box(frame) for number in present])
            logits, _, _ = view.segmenter.decode(embedding, boxes=boxes)
        yield from zip(present, [frame] * len(present), logits, strict=True)


def agreed(tubes: Sequence[Tube], view: View) -> Masks:
    """Each frame by itself, but masks of slices that lie close together are averaged.

    A slice's noise is its own, while an object hardly changes within a millimetre. What a slice counts for another is a
    Gaussian of their distance; where slices lie far apart, or nobody knows how far, nothing is averaged.
    """
    nearness = _nearness(view.stack)
    reach = len(nearness) - 1
    recent: list[deque[tuple[int, np.ndarray]]] = [deque(maxlen=2 * reach + 1) for _ in tubes]
    for number, frame, logits in frame_by_frame(tubes, view):
        kept, span = recent[number], tubes[number].frames
        kept.append((frame, logits))
        seen_all_around = span[-reach - 1 :] if frame == span[-1] else [frame - reach]
        for earlier in seen_all_around:
            if earlier in span:
                near = [(nearness[abs(other - earlier)], of) for other, of in kept if abs(other - earlier) <= reach]
                total = sum(weight for weight, _ in near)
                yield number, earlier, sum(weight / total * of for weight, of in near)


def _nearness(stack: Stack) -> np.ndarray:
    """float32 (R + 1,): what the slice itself and those one, two, ... slices away count."""
    step = stack.spacing_mm[0] if stack.spacing_mm and stack.kind == "volume" else 0
    reach = min(int(2 * _NEAR_MM / step), _FARTHEST) if step > 0 else 0
    return np.exp(-((np.arange(reach + 1) * step) ** 2) / (2 * _NEAR_MM**2)).astype(np.float32)


def key_frames(tube: Tube, needed: float) -> tuple[int, ...]:
    """Where a tube's box prompts, ascending: where it is surest and steadiest, and further such frames far from it.

    Parameters
    ----------
    needed
        Score that the box of a further frame has to reach, 0..1.
    """
    worth = tube.scores * tube.stability
    chosen: list[int] = []
    for place in np.argsort(-worth, kind="stable").tolist():
        far = all(abs(place - other) >= _KEYS_APART for other in chosen)
        if not chosen or (far and tube.scores[place] >= needed):
            chosen.append(place)
    return tuple(sorted(tube.first + place for place in chosen[:PROMPTED_FRAMES]))


def carried(tubes: Sequence[Tube], keys: Sequence[tuple[int, ...]], view: View, memory: Memory) -> Masks:
    """Masks of the key frames by their boxes, and from the surest of them forwards and backwards by memory.

    Every frame looks at all key frames of its tube, those ahead too, and at the frames that were just left. Where the
    detector saw the object, its box says so.
    """
    banks = [MemoryBank() for _ in tubes]
    for frame in sorted({frame for of_tube in keys for frame in of_tube}):
        embedding = view.embedding(frame)
        for number in (number for number, of_tube in enumerate(keys) if frame in of_tube):
            with view.clock("decode"):
                decoded = view.segmenter.decode_prompts(embedding, boxes=tubes[number].box(frame)[None])
            with view.clock("memory"):
                memory.remember(banks[number], embedding, frame, decoded, prompted=True)
            yield number, frame, decoded.mask_logits[0]
    starts = [max(of_tube, key=tube.score) for tube, of_tube in zip(tubes, keys, strict=True)]
    for ahead in (True, False):
        walking = [bank.only_prompted() for bank in banks]
        for frame in range(len(view.stack)) if ahead else reversed(range(len(view.stack))):
            for number, tube in enumerate(tubes):
                beyond = frame > starts[number] if ahead else frame < starts[number]
                if beyond and frame in tube.frames and frame not in keys[number]:
                    yield number, frame, _step(tube, frame, walking[number], view, memory)


def _step(tube: Tube, frame: int, bank: MemoryBank, view: View, memory: Memory) -> np.ndarray:
    """Mask logits (G, G) of one frame that memory tells of, which is then remembered too."""
    embedding = view.embedding(frame)
    with view.clock("memory"):
        conditioned = memory.condition(embedding, bank, frame)
    boxes = tube.box(frame)[None] if tube.score(frame) > 0 else None
    with view.clock("decode"):
        decoded = view.segmenter.decode_conditioned(embedding, conditioned, boxes)
    with view.clock("memory"):
        memory.remember(bank, embedding, frame, decoded)
    return decoded.mask_logits[0]
