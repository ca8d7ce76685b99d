"""Boxes of neighbouring frames become one tube an object."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.results import Detections
from pipeline.tubes import Linking, Tube, link

A, B = 1, 2  # two classes
LEAST = {A: 0.5, B: 0.5}


def frame(*boxes: tuple[float, float, float, int]) -> Detections:
    """Squares of side 20: (left, top, score, class)."""
    corners = np.array([[x, y, x + 20, y + 20] for x, y, _, _ in boxes], np.float32).reshape(-1, 4)
    scores = np.array([score for _, _, score, _ in boxes], np.float32)
    return Detections(corners, scores, np.array([class_id for _, _, _, class_id in boxes], np.int64))


def spans(frames: dict[int, Detections]) -> list[tuple[int, int, int]]:
    """(class, first, last) of each tube, best first."""
    return [(tube.class_id, tube.frames[0], tube.frames[-1]) for tube in link(frames, LEAST)]


def at(*frames: tuple) -> dict[int, Detections]:
    return {number: frame(*boxes) for number, boxes in enumerate(frames)}


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        pytest.param(at((), (), ()), [], id="nothing"),
        pytest.param(at([(0, 0, 0.4, A)], [(0, 0, 0.49, A)]), [], id="never sure enough"),
        pytest.param(at([(0, 0, 0.9, A)]), [(A, 0, 0)], id="one frame"),
        pytest.param(at([(0, 0, 0.6, A)], [(3, 0, 0.9, A)], [(6, 0, 0.7, A)]), [(A, 0, 2)], id="it moves"),
        pytest.param(at([(0, 0, 0.6, A)], [(50, 0, 0.9, A)]), [(A, 1, 1), (A, 0, 0)], id="it jumps: two"),
        pytest.param(at([(0, 0, 0.6, A)], [(0, 0, 0.9, B)]), [(B, 1, 1), (A, 0, 0)], id="another class: two"),
        pytest.param(at([(0, 0, 0.8, A)], (), [(0, 0, 0.9, A)]), [(A, 0, 2)], id="missed once"),
        pytest.param(at([(0, 0, 0.8, A)], (), (), [(0, 0, 0.9, A)]), [(A, 3, 3), (A, 0, 0)], id="missed twice"),
        pytest.param(
            at([(0, 0, 0.1, A)], [(0, 0, 0.45, A)], [(0, 0, 0.9, A)], [(0, 0, 0.1, A)]), [(A, 1, 2)], id="weak ends"
        ),
        pytest.param(
            at([(0, 0, 0.9, A)], [(0, 0, 0.1, A)], [(0, 0, 0.1, A)], [(0, 0, 0.6, A)]),
            [(A, 0, 0)],
            id="weak for longer than a gap",
        ),
        pytest.param(
            at([(0, 0, 0.9, A), (2, 0, 0.8, A)], [(0, 0, 0.9, A), (2, 0, 0.8, A)]), [(A, 0, 1)], id="doubles go"
        ),
        pytest.param(
            at([(0, 0, 0.6, A), (60, 0, 0.9, A)], [(0, 0, 0.6, A), (60, 0, 0.9, A)]),
            [(A, 0, 1), (A, 0, 1)],
            id="two at once",
        ),
        pytest.param(
            {0: frame((0, 0, 0.9, A)), 4: frame((8, 0, 0.9, A))}, [(A, 0, 4)], id="frames that nobody looked at"
        ),
    ],
)
def test_tubes(frames, expected):
    assert spans(frames) == expected


def test_boxes_between_lie_between():
    (tube,) = link({0: frame((0, 0, 0.9, A)), 4: frame((8, 4, 0.7, A))}, LEAST)
    assert tube.boxes[:, 0].tolist() == [0, 2, 4, 6, 8]
    assert tube.boxes[:, 3].tolist() == [20, 21, 22, 23, 24]
    assert tube.scores.tolist() == pytest.approx([0.9, 0, 0, 0, 0.7])


def test_the_chain_of_the_largest_sum_wins():
    """A surer first box that leads nowhere loses against a chain."""
    frames = at([(0, 0, 0.95, A), (30, 0, 0.6, A)], [(34, 0, 0.8, A)], [(36, 0, 0.8, A)])
    best = link(frames, LEAST)[0]
    assert best.boxes[:, 0].tolist() == [30, 34, 36]


def test_any_chain_is_the_best_of_all():
    """Against all chains of random boxes, tried one by one."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        frames = at(
            *[
                [(x, 0, s, A) for x, s in zip(rng.uniform(0, 40, 3), rng.uniform(0.4, 1, 3), strict=True)]
                for _ in range(4)
            ]
        )
        linking = Linking(gap=0, going_on=0)
        best = link(frames, LEAST, linking)[0]
        assert best.scores.sum() == pytest.approx(_best_by_trying(frames, linking), abs=1e-6)


def _best_by_trying(frames: dict[int, Detections], linking: Linking) -> float:
    best = 0.0

    def walk(number: int, last: int, total: float, sure: bool) -> None:
        nonlocal best
        best = max(best, total if sure else 0)
        if number + 1 >= len(frames):
            return
        here, there = frames[number], frames[number + 1]
        for index in range(len(there)):
            shift = abs(float(here.boxes[last, 0] - there.boxes[index, 0]))
            if (20 - shift) / (20 + shift) >= linking.overlap:
                walk(number + 1, index, total + float(there.scores[index]), sure or there.scores[index] >= 0.5)

    for number, of_frame in frames.items():
        for index in range(len(of_frame)):
            walk(number, index, float(of_frame.scores[index]), bool(of_frame.scores[index] >= 0.5))
    return best


@pytest.mark.parametrize(
    ("lefts", "expected"),
    [
        pytest.param([0], [1], id="alone"),
        pytest.param([0, 0, 0], [1, 1, 1], id="still"),
        pytest.param([0, 0, 10], [1, (1 + 1 / 3) / 2, 1 / 3], id="moves at its end"),
    ],
)
def test_stability(lefts, expected):
    boxes = np.array([[left, 0, left + 20, 20] for left in lefts], np.float32)
    tube = Tube(A, 0, boxes, np.ones(len(lefts), np.float32))
    assert tube.stability.tolist() == pytest.approx(expected)
