"""Outlines in the shapes of their classes."""

from __future__ import annotations

import numpy as np
import pytest

from hub.checks import SHAPES
from pipeline import shapes
from pipeline.shapes import Shapes, in_shape, toward_ellipse

SIDE = 64


def distance(x: float, y: float, half_width: float, half_height: float) -> np.ndarray:
    """Logits of an ellipse, about its signed distance in cells."""
    columns, rows = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
    far = np.sqrt(((columns - x) / half_width) ** 2 + ((rows - y) / half_height) ** 2)
    return ((1 - far) * min(half_width, half_height)).astype(np.float32)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * ((a > 0) & (b > 0)).sum() / ((a > 0).sum() + (b > 0).sum())


WHOLE = distance(30, 34, 20, 12)
#: A bay from the right, a hole, and a hole with an island.
BITTEN = np.where(distance(50, 34, 9, 3) > 0, -2, WHOLE).astype(np.float32)
HOLED = np.where(distance(26, 34, 5, 4) > 0, -3, WHOLE).astype(np.float32)
RINGED = np.where(distance(26, 34, 2, 2) > 0, 1, HOLED).astype(np.float32)


@pytest.mark.parametrize(
    ("logits", "shape", "wanted", "least"),
    [
        pytest.param(HOLED, "filled", WHOLE, 1.0, id="a-hole"),
        pytest.param(RINGED, "filled", WHOLE, 1.0, id="a-hole-with-an-island"),
        pytest.param(WHOLE, "filled", WHOLE, 1.0, id="nothing-to-fill"),
        pytest.param(BITTEN, "filled", BITTEN, 1.0, id="a-bay-is-no-hole"),
        pytest.param(BITTEN, "convex", WHOLE, 0.985, id="a-bay"),
        pytest.param(WHOLE, "convex", WHOLE, 0.985, id="convex-already"),
        pytest.param(BITTEN, "ellipse", WHOLE, 0.95, id="a-bitten-ellipse"),
        pytest.param(WHOLE, "ellipse", WHOLE, 0.985, id="an-ellipse-already"),
        pytest.param(HOLED, None, HOLED, 1.0, id="no-shape"),
    ],
)
def test_shapes(logits, shape, wanted, least):
    before = logits.copy()
    found = in_shape(logits, shape)
    assert found.shape == logits.shape
    assert found.dtype == np.float32
    assert dice(found, wanted) >= least
    assert np.array_equal(logits, before)


def test_a_convex_outline_holds_all_of_the_mask():
    rng = np.random.default_rng(0)
    for _ in range(20):
        logits = rng.normal(-2, 1.2, (SIDE, SIDE)).astype(np.float32)
        hull = in_shape(logits, "convex")
        assert (hull[logits > 0] >= -0.01).all()


def test_what_stays_keeps_its_logits():
    found = in_shape(HOLED, "filled")
    assert np.array_equal(found[HOLED > 0], HOLED[HOLED > 0])
    assert np.array_equal(found[WHOLE <= 0], HOLED[WHOLE <= 0])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "logits",
    [
        pytest.param(np.full((SIDE, SIDE), -5, np.float32), id="empty"),
        pytest.param(np.where(distance(3, 3, 1, 1) > 0, 1, -1).astype(np.float32), id="a-few-cells"),
        pytest.param(np.full((SIDE, SIDE), 5, np.float32), id="full"),
        pytest.param(
            np.where(np.arange(SIDE) == 9, 1, -1).astype(np.float32) * np.ones((SIDE, 1), np.float32), id="a-line"
        ),
    ],
)
def test_odd_masks_stay_about_what_they_are(shape, logits):
    found = in_shape(logits, shape)
    assert np.isfinite(found).all()
    inside = (logits > 0).sum()
    assert (found > 0).sum() == pytest.approx(inside, rel=0.3, abs=2)


def test_a_release_may_name_the_shapes_that_there_are():
    assert set(SHAPES) == set(shapes._SHAPES)


#: xyxy in cells, of WHOLE.
BOX = np.float32([10, 22, 50, 46])


def test_a_mask_leans_towards_the_ellipse_of_its_box():
    """The more, the larger the weight; what is surer moves less."""
    bitten = [dice(toward_ellipse(BITTEN, BOX, weight), WHOLE) for weight in (0, 0.5, 2, 100)]
    assert bitten == sorted(bitten) and bitten[0] < 0.98 and bitten[-1] == pytest.approx(1, abs=0.005)
    shifted = toward_ellipse(WHOLE, BOX + 4, 1)
    near, between, far = (dice(shifted, distance(30 + by, 34 + by, 20, 12)) for by in (0, 2, 4))
    assert between > 0.97 and between > near and between > far
    assert shifted.dtype == np.float32


@pytest.mark.parametrize("box", [(3, 3, 3, 3), (-40, -10, 5, 90), (70, 70, 80, 80)])
def test_odd_boxes_lean_too(box):
    assert np.isfinite(toward_ellipse(WHOLE, np.float32(box), 1.5)).all()


def test_each_label_has_its_own_shape():
    config = {
        "shapes": {"polyp": "convex", "lung": "filled"}, "box_ellipse": {"polyp": 1.5},
        "logit_offset": {"polyp": -0.5, "lung": -0.25},
    }  # fmt: skip
    logits = np.stack([BITTEN, HOLED, BITTEN])
    before = logits.copy()
    found = Shapes.from_config(config).of(logits, ("polyp", "lung", "region"), np.stack([BOX] * 3))
    assert np.array_equal(found[0], in_shape(toward_ellipse(BITTEN - 0.5, BOX, 1.5), "convex"))
    assert np.array_equal(found[1], in_shape(HOLED - 0.25, "filled"))
    assert np.array_equal(found[2], BITTEN)
    assert np.array_equal(logits, before)
    none = Shapes.from_config({}).of(np.zeros((0, SIDE, SIDE), np.float32), (), np.zeros((0, 4), np.float32))
    assert none.shape == (0, SIDE, SIDE)
