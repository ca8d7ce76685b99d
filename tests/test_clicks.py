"""Clicks that the decoder does not follow, by value."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.clicks import obey_clicks

BOX = np.float32([[4, 4, 24, 24]])


def pushed(level: float, *clicks: tuple[float, float, int]) -> np.ndarray:
    points = np.float32([[click[:2] for click in clicks]])
    labels = np.int64([[click[2] for click in clicks]])
    return obey_clicks(np.full((1, 32, 32), level, np.float32), BOX, points, labels)[0]


@pytest.mark.parametrize(("level", "label"), [(-3.0, 1), (3.0, 0)], ids=["inside", "outside"])
def test_a_click_is_obeyed_and_reaches_a_little_around_itself(level, label):
    logits = pushed(level, (10.5, 12.5, label))
    assert logits[12, 10] == pytest.approx(1.0 if label else -1.0)
    changed = (logits > 0) != (level > 0)
    rows, columns = np.nonzero(changed)
    assert 4 < changed.sum() < 40 and abs(rows - 12).max() <= 3 and abs(columns - 10).max() <= 3
    assert abs(logits[30, 30] - level) < 1e-3


def test_surer_parts_stay_as_they_are():
    mild, sure = (((pushed(level, (10.5, 12.5, 0)) > 0) != (level > 0)).sum() for level in (0.5, 20.0))
    assert sure < mild


@pytest.mark.parametrize(
    ("level", "click"),
    [
        pytest.param(2.0, (10.5, 12.5, 1), id="followed-inside"),
        pytest.param(-2.0, (10.5, 12.5, 0), id="followed-outside"),
        pytest.param(-2.0, (0.0, 0.0, -1), id="no-click"),
    ],
)
def test_a_click_that_is_followed_changes_nothing(level, click):
    assert (pushed(level, click) == np.float32(level)).all()


def test_each_region_has_its_own_clicks():
    logits = np.full((2, 32, 32), -2, np.float32)
    points, labels = np.float32([[[8.5, 8.5]], [[0, 0]]]), np.int64([[1], [-1]])
    both = obey_clicks(logits, np.concatenate([BOX, BOX]), points, labels)
    assert both[0, 8, 8] > 0 and (both[1] == -2).all() and (logits == -2).all()


def test_a_click_on_the_border_of_the_grid():
    assert pushed(-2.0, (32.0, 0.0, 1))[0, 31] == pytest.approx(1.0)
