"""Overlaps of masks and boxes, by value."""

from __future__ import annotations

import numpy as np
import pytest

from eval.metrics import dice, iou, matched_ious


def mask(*rows: str) -> np.ndarray:
    return np.array([[cell == "#" for cell in row] for row in rows])


@pytest.mark.parametrize(
    ("found", "truth", "dice_", "iou_"),
    [
        pytest.param(mask("##.."), mask("##.."), 1.0, 1.0, id="same"),
        pytest.param(mask("##.."), mask("..##"), 0.0, 0.0, id="apart"),
        pytest.param(mask("##.."), mask(".##."), 0.5, 1 / 3, id="half"),
        pytest.param(mask("...."), mask(".##."), 0.0, 0.0, id="missed"),
        pytest.param(mask("...."), mask("...."), 1.0, 1.0, id="both empty"),
    ],
)
def test_overlap(found, truth, dice_, iou_):
    assert dice(found, truth) == pytest.approx(dice_)
    assert iou(found, truth) == pytest.approx(iou_)


@pytest.mark.parametrize(
    ("found", "truth", "expected"),
    [
        pytest.param([[0, 0, 10, 10]], [[0, 0, 10, 10], [0, 0, 10, 9]], [1.0, 0.0], id="one box serves once"),
        pytest.param([[0, 0, 10, 10], [20, 0, 30, 10]], [[20, 0, 30, 5]], [0.5], id="the better one"),
        pytest.param([], [[0, 0, 1, 1]], [0.0], id="nothing found"),
        pytest.param([[0, 0, 1, 1]], [], [], id="nothing to find"),
    ],
)
def test_matched_boxes(found, truth, expected):
    found, truth = (np.array(boxes, np.float32).reshape(-1, 4) for boxes in (found, truth))
    assert matched_ious(found, truth).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_overlap_as_libraries_have_it(seed):
    """Random masks: Dice as surface-distance has it, IoU as scipy."""
    surface_distance = pytest.importorskip("surface_distance")
    distance = pytest.importorskip("scipy.spatial.distance")
    rng = np.random.default_rng(seed)
    found, truth = (rng.random((40, 50)) < share for share in rng.uniform(0.1, 0.9, 2))
    assert dice(found, truth) == pytest.approx(surface_distance.compute_dice_coefficient(truth, found))
    assert iou(found, truth) == pytest.approx(1 - distance.jaccard(found.ravel(), truth.ravel()))
