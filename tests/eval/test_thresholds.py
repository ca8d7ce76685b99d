"""Which least score wins, by value."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from eval.thresholds import best_rule, covered

pytestmark = pytest.mark.training

RIGHT, WRONG = [0, 0, 50, 100], [50, 0, 100, 100]


def image(found: list, scores: list, true: list) -> tuple:
    boxes = [np.array(part, np.float32).reshape(-1, 4) for part in (found, true)]
    return boxes[0], np.array(scores), boxes[1], 100, 100


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        pytest.param([image([RIGHT, WRONG], [0.6, 0.3], [RIGHT])], (0.2, 0.8, 1.0), id="far below the surest"),
        pytest.param([image([RIGHT], [0.2], [RIGHT])], (0.2, 0.0, 1.0), id="low, since nothing is wrong"),
        pytest.param([image([RIGHT], [0.6], [RIGHT]), image([WRONG], [0.5], [])], (0.6, 0.0, 1.0), id="an empty image"),
        pytest.param([image([RIGHT, WRONG], [0.6, 0.5], [RIGHT, WRONG])], (0.2, 0.0, 1.0), id="two are true"),
    ],
)
def test_best_rule(images, expected):
    assert best_rule(images, (0.2, 0.4, 0.6), (0.0, 0.8)) == pytest.approx(expected)


def test_covered_cells():
    grid = covered(np.array([[0, 0, 100, 50]]), 200, 100)
    assert grid[:64, :64].all()
    assert grid.sum() == 64 * 64
