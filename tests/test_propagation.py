"""Which frames prompt, and in which order memory is carried through a tube."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from pipeline.frame_networks import FrameNetworks
from pipeline.geometry import Resize
from pipeline.memory import FrameMemory
from pipeline.propagation import View, agreed, carried, key_frames
from pipeline.segmenter import Decoded, Embedding
from pipeline.stack import Stack
from pipeline.tubes import Tube


def tube(scores: list[float], first: int = 0, lefts: list[int] | None = None) -> Tube:
    corners = [[left, 0, left + 20, 20] for left in lefts or [0] * len(scores)]
    return Tube(1, first, np.array(corners, np.float32), np.array(scores, np.float32))


@pytest.mark.parametrize(
    ("of_tube", "expected"),
    [
        pytest.param(tube([0.9]), (0,), id="one-frame"),
        pytest.param(tube([0.6, 0.9, 0.7], first=10), (11,), id="the-surest"),
        pytest.param(tube([0.9, 0.9, 0.91], lefts=[0, 0, 12]), (0,), id="the-steadiest-of-about-equals"),
        pytest.param(tube([0.8, *[0.6] * 7, 0.9]), (0, 8), id="another-far-away"),
        pytest.param(tube([0.8, *[0.6] * 6, 0.9]), (7,), id="none-nearby"),
        pytest.param(tube([0.3, *[0.6] * 10, 0.9]), (1, 11), id="none-that-is-unsure"),
        pytest.param(tube([0.3, *[0.4] * 10, 0.9]), (11,), id="not-even-in-the-middle"),
        pytest.param(tube([0.9] * 41), (0, 8, 16, 24), id="four-at-most"),
    ],
)
def test_key_frames(of_tube, expected):
    assert key_frames(of_tube, needed=0.5) == expected


class Networks:
    """Stand for the segmenter and for the memory of a release, and note in which order they are asked."""

    size = 64

    def __init__(self):
        self.asked: list[tuple] = []

    def embed_input(self, image: np.ndarray, window: Resize) -> Embedding:
        self.asked.append(("embed", int(image[0, 0, 0])))
        return Embedding((np.full((1, 1), image[0, 0, 0], np.float32),) * 3, window)

    def decode(self, embedding, *, boxes):
        return np.zeros((len(boxes), 4, 4), np.float32), *np.zeros((2, len(boxes)), np.float32)

    def decode_prompts(self, embedding, *, boxes) -> Decoded:
        self.asked.append(("prompt", int(embedding.features[0][0, 0])))
        return self._decoded()

    def decode_conditioned(self, embedding, conditioned, boxes) -> Decoded:
        self.asked.append(("box" if boxes is not None else "no box", int(embedding.features[0][0, 0])))
        return self._decoded()

    def condition(self, embedding, bank, frame) -> np.ndarray:
        memories, _ = bank.seen_from(frame)
        self.asked.append(("looks back", frame, sorted(entry.frame_index for _, entry in memories)))
        return np.zeros((1, 256, 4, 4), np.float32)

    def remember(self, bank, embedding, frame, decoded, *, prompted=False) -> None:
        bank.add(
            FrameMemory(frame, np.zeros((1, 64, 4, 4), np.float32), np.zeros((1, 256), np.float32)), prompted=prompted
        )

    def _decoded(self) -> Decoded:
        return Decoded(np.zeros((1, 4, 4), np.float32), np.zeros(1, np.float32), np.ones(1, np.float32), None)


def view(networks: Networks, count: int, step_mm: float | None = None, kind: str = "volume") -> View:
    frames = np.repeat(np.arange(count, dtype=np.uint8), 64 * 64).reshape(count, 64, 64)
    window = Resize.plan(64, 64, 64, "squash")
    spacing = step_mm and (step_mm, 1.0, 1.0)
    stack, alone = Stack(Path("stack"), kind, frames, spacing), FrameNetworks(None, networks, 1)
    return View(stack, window, networks, alone, lambda stage: nullcontext())


def test_memory_is_carried_both_ways_from_the_surest_frame():
    networks, of_tube = Networks(), tube([0.6, 0.9, 0, 0.6], first=1)
    masks = [(number, frame) for number, frame, _ in carried([of_tube], [(2,)], view(networks, 6), networks)]
    assert masks == [(0, 2), (0, 3), (0, 4), (0, 1)]
    assert networks.asked == [
        *[("embed", 2), ("prompt", 2)],
        *[("embed", 3), ("looks back", 3, [2]), ("no box", 3)],
        *[("embed", 4), ("looks back", 4, [2, 3]), ("box", 4)],
        *[("embed", 1), ("looks back", 1, [2]), ("box", 1)],
    ]


def test_every_key_frame_is_looked_at_and_embedded_once():
    networks, of_tube = Networks(), tube([0.9, *[0.6] * 7, 0.95])
    masks = [frame for _, frame, _ in carried([of_tube], [(0, 8)], view(networks, 9), networks)]
    assert sorted(masks) == list(range(9))
    assert [asked[1] for asked in networks.asked if asked[0] == "embed"] == [0, 8, 7, 6, 5, 4, 3, 2, 1]
    assert ("looks back", 7, [0, 8]) in networks.asked


@pytest.mark.parametrize("way", ["alone", "memory"])
def test_objects_at_once_share_a_frames_embedding(way):
    networks, tubes = Networks(), [tube([0.9, 0.6, 0.6]), tube([0.9, 0.6], first=0)]
    seen = view(networks, 4)
    masks = agreed(tubes, seen) if way == "alone" else carried(tubes, [(0,), (0,)], seen, networks)
    assert sorted((number, frame) for number, frame, _ in masks) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert [asked for asked in networks.asked if asked[0] == "embed"] == [("embed", 0), ("embed", 1), ("embed", 2)]


class Frames(Networks):
    """Gives each frame's squared number as its logits."""

    def decode(self, embedding, *, boxes):
        number = embedding.features[0][0, 0]
        return np.full((len(boxes), 4, 4), number**2, np.float32), *np.zeros((2, len(boxes)), np.float32)


def near(frame: int, frames: range, step: float, reach: int) -> np.ndarray:
    """How much each frame counts for one, zero beyond the reach."""
    away = np.abs(np.array(frames) - frame)
    weights = np.exp(-((away * step) ** 2) / 2) * (away <= reach)
    return weights / weights.sum()


@pytest.mark.parametrize(
    ("step_mm", "kind", "reach"),
    [
        pytest.param(1.0, "volume", 2, id="one-millimetre"),
        pytest.param(1.5, "volume", 1, id="coarser"),
        pytest.param(0.1, "volume", 3, id="never-farther-than-three"),
        pytest.param(5.0, "volume", 0, id="thick-slices"),
        pytest.param(None, "volume", 0, id="unknown"),
        pytest.param(1.0, "video", 0, id="frames-of-a-video"),
    ],
)
@pytest.mark.parametrize("count", [1, 2, 9])
def test_slices_that_lie_close_together_agree(step_mm, kind, reach, count):
    of_tube = tube([0.9] * count, first=2)
    masks = list(agreed([of_tube], view(Frames(), 12, step_mm, kind)))
    assert [(number, frame) for number, frame, _ in masks] == [(0, frame) for frame in of_tube.frames]
    for _, frame, logits in masks:
        weights = near(frame, of_tube.frames, step_mm or 0, reach)
        assert logits == pytest.approx((weights * np.array(of_tube.frames) ** 2).sum(), rel=1e-5)


def test_each_object_agrees_with_itself_alone():
    tubes = [tube([0.9] * 6), tube([0.9] * 3, first=2)]
    together = {(number, frame): logits for number, frame, logits in agreed(tubes, view(Frames(), 8, 1.0))}
    for number, one in enumerate(tubes):
        for _, frame, logits in agreed([one], view(Frames(), 8, 1.0)):
            assert np.array_equal(together.pop((number, frame)), logits)
    assert not together
