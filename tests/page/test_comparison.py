"""Agreement of two answers, on masks whose Dice is known."""

from __future__ import annotations

import numpy as np
import pytest

from page.comparison import dice_by_class
from page.costs import costs_html
from page.words import Words
from pipeline.geometry import Resize
from pipeline.results import Detections, Segmentation

LEFT, TOP, NONE = (np.s_[:, :2], np.s_[:2, :], np.s_[:0, :])


def answer(*regions) -> Segmentation:
    """Of a 4x4 image: (class, part) pairs."""
    logits = np.full((len(regions), 4, 4), -8, np.float32)
    for mask, (_, part) in zip(logits, regions, strict=True):
        mask[part] = 8
    count = len(regions)
    detections = Detections(
        np.tile(np.float32([0, 0, 4, 4]), (count, 1)), np.ones(count, np.float32), np.ones(count, np.int64)
    )
    return Segmentation(
        detections, tuple(label for label, _ in regions), logits, np.ones(count, np.float32),
        Resize.plan(4, 4, 4, "squash"), "int8", {"version": "1", "sha256": "a"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second", "dice"),
    [
        pytest.param([("lung", LEFT)], [("lung", LEFT)], {"lung": 1.0}, id="same"),
        pytest.param([("lung", LEFT)], [("lung", TOP)], {"lung": 0.5}, id="half"),
        pytest.param([("lung", LEFT)], [], {"lung": 0.0}, id="only one found it"),
        pytest.param([("lung", LEFT), ("lung", TOP)], [("lung", TOP), ("lung", LEFT)], {"lung": 1.0}, id="union"),
        pytest.param([("lung", LEFT)], [("polyp", LEFT)], {"lung": 0.0, "polyp": 0.0}, id="other class"),
        pytest.param([], [], {}, id="nothing"),
        pytest.param([("lung", NONE)], [("lung", NONE)], {"lung": 0.0}, id="empty masks"),
    ],
)
def test_dice_of_each_class(first, second, dice):
    assert dice_by_class(answer(*first), answer(*second)) == dice


def test_precisions_are_compared_where_there_are_two():
    times = {"read": 1.0, "detect": 2.0, "embed": 3.0, "decode": 4.0, "post": 0.0, "total": 10.0}
    assert 'id="runs"' not in costs_html(times, 52_000_000, {"int8": times}, Words())
    both = costs_html(times, 52_000_000, {"int8": times, "fp32": times | {"total": 20.0}}, Words())
    bars = both.partition('id="runs"')[2]
    assert bars.index("INT8") < bars.index("50.0%") < bars.index("FP32") < bars.index("100.0%")
    assert "Weights 52 MB, process " in both
