"""What shapes a class's outlines best."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from eval.outlines import Asked, ask, choose
from pipeline import AutoSegmenter
from pipeline.datasets import Region
from pipeline.results import Detections
from pipeline.shapes import Shapes, in_shape

pytestmark = pytest.mark.training

SIDE = 64


def ellipse(x: float, y: float, across: float, down: float, side: int = SIDE) -> np.ndarray:
    """About the signed distance from an ellipse, in cells of 64."""
    columns, rows = np.meshgrid(*[(np.arange(side) + 0.5) * SIDE / side] * 2)
    far = np.sqrt(((columns - x) / across) ** 2 + ((rows - y) / down) ** 2)
    return ((1 - far) * np.sqrt(across * down)).astype(np.float32)


def asked(logits: np.ndarray, truth: np.ndarray, box: list[float]) -> Asked:
    return Asked([logits], [np.float32(box)], [truth > 0])


TRUE = ellipse(30, 34, 20, 12, 256)
BOX = [10, 22, 50, 46]


def test_too_wide_outlines_go_further_in():
    """Two lobes, which no other shape helps."""
    logits, truth = (np.maximum(ellipse(20, 40, 10, 8, side), ellipse(42, 28, 7, 14, side)) for side in (SIDE, 256))
    chosen, after, before = choose("polyp", *[asked(logits + 0.75, truth, [10, 14, 49, 48])] * 2)
    assert chosen == Shapes(offsets={"polyp": -0.75})
    assert before < 0.95 and after > 0.99


def test_a_bitten_ellipse_becomes_whole():
    bitten = np.where(ellipse(50, 34, 9, 6) > 0, -2, ellipse(30, 34, 20, 12)).astype(np.float32)
    chosen, after, before = choose("polyp", *[asked(bitten, TRUE, BOX)] * 2)
    assert chosen.ellipses and after > before + 0.03


def test_both_kinds_of_boxes_count_and_the_own_ones_more():
    """Loose boxes say little of an ellipse, true ones much: one weight has to serve both."""
    logits = ellipse(30, 34, 18, 14)
    good, loose = asked(logits, TRUE, BOX), asked(logits, TRUE, [13, 25, 53, 49])
    weights = [
        choose("polyp", *kinds)[0].ellipses.get("polyp", 0) for kinds in ((good, good), (good, loose), (loose, good))
    ]
    assert weights[0] > weights[1] > weights[2]


def test_what_is_chosen_together_reaches_what_any_shape_alone_does():
    bitten = np.where(ellipse(50, 34, 14, 9) > 0, -1, ellipse(30, 34, 17, 10)).astype(np.float32)
    both = asked(bitten, TRUE, BOX), asked(bitten, TRUE, [11, 23, 52, 45])
    chosen, after, _ = choose("polyp", *both)
    alone = [Shapes({"polyp": shape}) for shape in ("filled", "convex", "ellipse")]
    alone += [Shapes(ellipses={"polyp": weight}) for weight in (1.0, 3.0, 6.0)]
    own, true = ([of.dice("polyp", shapes) for shapes in [*alone, chosen]] for of in both)
    *reached, together = np.average([own, true], axis=0, weights=(2, 1))
    assert together == pytest.approx(after) and together >= max(reached)


def test_nothing_is_chosen_where_nothing_helps():
    good = ellipse(30, 34, 20, 12)
    assert choose("polyp", *[asked(good, in_shape(TRUE, None), BOX)] * 2)[0] == Shapes()
    assert choose("polyp", Asked(), Asked())[0] == Shapes()


def test_the_release_is_asked_with_its_boxes_and_the_true_ones(monkeypatch):
    """Boxes that are wrong, and images and regions without a mask, are left out."""
    segment = AutoSegmenter.from_release(threads=1)
    mask = ellipse(30, 34, 12, 10, 320) > 0
    pixels = np.where(mask, 200, 60).astype(np.uint8)[..., None].repeat(3, 2)
    box = np.float32([90, 120, 210, 220])
    boxes = np.stack([box + 3, np.float32([0, 0, 30, 30])])
    found = Detections(boxes, np.float32([0.9, 0.8]), np.array(segment.class_ids(["lung"] * 2)))
    monkeypatch.setattr(segment.detector, "detect", lambda *_, **__: found)
    own, true = ask(segment, "lung", [(pixels, [Region("lung", box, mask), Region("lung", box)]), (pixels, [])])
    for asked_for in (own, true):
        assert [len(part) for part in (asked_for.logits, asked_for.boxes, asked_for.truths)] == [1, 1, 1]
        side = len(asked_for.logits[0])
        across = np.ptp(asked_for.boxes[0].reshape(2, 2), axis=0)
        assert across[0] / across[1] == pytest.approx(120 / 100, rel=0.01) and across.max() < side
        assert asked_for.truths[0].any()
        assert asked_for.dice("lung", Shapes()) > 0.8
