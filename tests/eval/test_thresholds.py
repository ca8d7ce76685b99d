"""Which least score wins, by value."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from eval.thresholds import Look, Rule, best_rule, choose, covered, false_boxes, rules_of, shaken
from pipeline.results import Detections

pytestmark = pytest.mark.training

RIGHT, WRONG = [0, 0, 50, 100], [50, 0, 100, 100]


def look(found: list, scores: list, true: list, class_id: int = 1) -> Look:
    boxes = np.array(found, np.float32).reshape(-1, 4)
    detections = Detections(boxes, np.array(scores, np.float32), np.full(len(boxes), class_id))
    return Look(detections, np.array(true, np.float32).reshape(-1, 4), 100, 100)


@pytest.mark.parametrize(
    ("own", "others", "expected"),
    [
        pytest.param([look([RIGHT, WRONG], [0.61, 0.3], [RIGHT])], [], (0.2, 0.8, 1.0), id="far below the surest"),
        pytest.param([look([RIGHT], [0.21], [RIGHT])], [], (0.2, 0.0, 1.0), id="low, since nothing is wrong"),
        pytest.param(
            [look([RIGHT], [0.61], [RIGHT]), look([WRONG], [0.5], [])], [], (0.6, 0.0, 1.0), id="an empty image"
        ),
        pytest.param(
            [look([RIGHT], [0.61], [RIGHT])], [look([WRONG], [0.3], [WRONG])], (0.4, 0.0, 1.0), id="another source"
        ),
        pytest.param(
            [look([RIGHT], [0.61], [RIGHT])], [look([WRONG], [0.9], [WRONG], 2)], (0.2, 0.0, 1.0), id="another class"
        ),
        pytest.param([look([RIGHT, WRONG], [0.61, 0.51], [RIGHT, WRONG])], [], (0.2, 0.0, 1.0), id="two are true"),
    ],
)
def test_best_rule(own, others, expected):
    best = best_rule(rules_of(1, {1: own, 2: others}, (0.2, 0.4, 0.6), (0.0, 0.8)), 0.5)
    assert (best.threshold, best.share, best.overlap) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("most", "threshold", "held"), [(0.0, 0.55, 0.0), (0.1, 0.55, 0.0), (0.5, 0.35, 0.5), (1.0, 0.1, 1.0)]
)
def test_the_lowest_that_keeps_to_the_limit(most, threshold, held):
    unsure = [look([RIGHT], [score], [RIGHT]) for score in (0.33, 0.53, 0.53, 0.73, 0.73)]
    looks = {1: [*unsure, look([WRONG], [0.32], []), look([WRONG], [0.5], [])]}
    rules = choose(looks, most)
    assert rules[1].threshold == threshold
    assert false_boxes(looks, rules) == held


@pytest.mark.parametrize(
    ("most", "thresholds"),
    [
        pytest.param(0.2, (0.4, 0.4), id="too few for either"),
        pytest.param(0.6, (0.1, 0.4), id="enough for either"),
        pytest.param(0.8, (0.1, 0.1), id="enough for both"),
    ],
)
def test_the_class_that_gains_most_goes_first(most, thresholds):
    """Of each class one of three is unsure; to find it costs a false box in one of two empty images, or in both."""
    unsure = {label: [look([RIGHT], [score], [RIGHT], label) for score in (0.38, 0.68, 0.68)] for label in (1, 2)}
    looks = {
        1: [*unsure[1], look([WRONG], [0.36], [], 1), look([], [], [], 1)],
        2: [*unsure[2], look([WRONG], [0.36], [], 2), look([WRONG], [0.36], [], 2)],
    }
    rules = choose(looks, most)
    assert tuple(rules[label].threshold for label in (1, 2)) == thresholds


def test_boxes_of_all_classes_are_false_in_an_empty_image_and_sources_count_alike():
    empty = look([RIGHT, WRONG], [0.9, 0.8], [])
    strange = look([RIGHT], [0.9], [], class_id=2)
    looks = {1: [empty, look([], [], [])], 2: [strange], 3: [look([RIGHT], [0.9], [RIGHT], 3)]}
    rules = {class_id: Rule(0.5, 0.0, 0.0, 0.0) for class_id in looks}
    assert false_boxes(looks, rules) == (1.0 + 1.0) / 2


def test_a_false_box_costs_what_its_source_counts():
    """In one of two empty images of a source, and in a tenth of another's images with truth, however many there are."""
    found, none = look([WRONG], [0.5], [], 1), look([], [], [], 1)
    labelled = [look([WRONG] if place < 2 else [], [0.5] if place < 2 else [], [RIGHT], 1) for place in range(20)]
    looks = {1: [look([RIGHT], [0.9], [RIGHT], 1)], 2: labelled, 3: [found, none], 4: [none] * 50}
    [low, high] = rules_of(1, looks, (0.4, 0.6), (0.0,))
    assert low.false_boxes == pytest.approx((0.5 + 0) / 2 + 0.1)
    assert high.false_boxes == 0


def test_a_single_score_does_not_decide():
    """As the scores are, a share of 0.9 parts right from wrong; a little off, it often does not."""
    looks = [look([RIGHT, WRONG], [0.8, 0.8 * share], [RIGHT]) for share in (0.4, 0.5, 0.6, 0.895)]
    looks += [look([RIGHT, WRONG], [0.8, 0.8 * share], [RIGHT, WRONG]) for share in (0.905, 0.95, 0.96, 0.97)]
    plain, off = ({rule.share: rule for rule in rules_of(1, {1: of}, (0.3,))} for of in (looks, shaken(looks)))
    assert plain[0.9].overlap == 1.0
    assert off[0.9].overlap < 0.95


def test_each_image_counts_as_it_is_and_several_times_more():
    looks = [look([RIGHT, WRONG], [0.98, 0.02], [RIGHT]), look([], [], [])]
    several = shaken(looks)
    assert several[:2] == looks
    assert [len(of.found) for of in several] == [2, 0] * 6
    scores = np.stack([of.found.scores for of in several[2::2]])
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert len(np.unique(scores[:, 0])) > 2
    assert all(of.true is looks[0].true for of in several[::2])
    assert [of.found.scores.tolist() for of in shaken(looks)] == [of.found.scores.tolist() for of in several]


def test_covered_cells():
    grid = covered(np.array([[0, 0, 100, 50]]), 200, 100)
    assert grid[:64, :64].all()
    assert grid.sum() == 64 * 64
