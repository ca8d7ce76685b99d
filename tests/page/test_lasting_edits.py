"""Corrections are told anew for what other options find."""

from __future__ import annotations

import numpy as np
import pytest

from page.lasting_edits import note, retell
from pipeline.errors import InputError
from pipeline.geometry import Resize
from pipeline.results import Detections, Segmentation

LUNG, OTHER, POLYP = ("lung", (10, 10, 50, 90)), ("lung", (60, 10, 95, 90)), ("polyp", (20, 60, 40, 80))
#: The first lung, as another precision sees it, and with another label.
NEARLY, RENAMED = ("lung", (11, 9, 52, 90)), ("polyp", (10, 10, 51, 90))
BOX = [10.0, 10.0, 40.0, 80.0]


def found(*regions: tuple[str, tuple]) -> Segmentation:
    count = len(regions)
    boxes = np.array([box for _, box in regions], np.float32).reshape(-1, 4)
    return Segmentation(
        detections=Detections(boxes, np.full(count, 0.9, np.float32), np.ones(count, np.int64)),
        labels=tuple(label for label, _ in regions),
        mask_logits=np.zeros((count, 8, 8), np.float32),
        mask_ious=np.zeros(count, np.float32),
        resize=Resize.plan(100, 100, 8, "squash"),
        precision="int8",
        weights={},
    )


def click(region: int) -> dict:
    return {"action": "click", "region": region, "point": [30.0, 40.0], "inside": False}


def delete(region: int) -> dict:
    return {"action": "delete", "region": region}


def relabel(region: int) -> dict:
    return {"action": "relabel", "region": region, "label": "polyp"}


def box(region: int) -> dict:
    return {"action": "box", "region": region, "box": [0.0, 0.0, 5.0, 5.0]}


ADD = {"action": "add", "box": [70.0, 70.0, 9.0, 9.0], "label": "region"}
KEPT_LUNG = {"action": "add", "box": BOX, "label": "lung"}


@pytest.mark.parametrize(
    ("edits", "before", "after", "expected"),
    [
        pytest.param([click(1)], [LUNG, OTHER], [LUNG, OTHER], [click(1)], id="the same is found"),
        pytest.param([click(1)], [LUNG, OTHER], [OTHER, NEARLY], [click(2)], id="in another order"),
        pytest.param([box(1), click(1)], [LUNG], [POLYP, NEARLY], [box(2), click(2)], id="its box was moved"),
        pytest.param([click(1)], [LUNG], [RENAMED], [click(1)], id="by another name"),
        pytest.param([click(1)], [LUNG], [RENAMED, NEARLY], [click(2)], id="its own name first"),
        pytest.param([click(1), relabel(1)], [LUNG, OTHER], [OTHER], [KEPT_LUNG, click(2), relabel(2)],
                     id="corrected and not found any more"),
        pytest.param([delete(1)], [LUNG, OTHER], [OTHER], [], id="deleted and not found any more"),
        pytest.param([click(1), delete(1), click(1)], [LUNG, OTHER], [OTHER], [click(1)],
                     id="corrected, deleted, not found any more"),
        pytest.param([delete(1)], [LUNG, OTHER], [OTHER, NEARLY], [delete(2)], id="deleted and found again"),
        pytest.param([ADD, click(2)], [LUNG], [], [ADD, click(1)], id="added, then clicked"),
        pytest.param([ADD, ADD, delete(2), click(2)], [LUNG], [LUNG, OTHER], [ADD, ADD, delete(3), click(3)],
                     id="the second of two added ones"),
        pytest.param([], [LUNG], [OTHER], [], id="none"),
    ],
)  # fmt: skip
def test_edits_follow_their_regions(edits, before, after, expected):
    noted = note(edits, found(*before))
    assert [edit.to_json() for edit in retell(noted, found(*before))] == edits
    kept = [each.to_json() for each in noted]
    there = note(kept, found(*after))
    assert [edit.to_json() for edit in retell(there, found(*after))] == expected
    back = note([each.to_json() for each in there], found(*before))
    assert [edit.to_json() for edit in retell(back, found(*before))] == edits


def test_an_edit_after_a_change_of_options_is_about_the_region_as_it_was_known():
    noted = note([click(1)], found(LUNG))
    noted = note([*(each.to_json() for each in noted), delete(2)], found(OTHER, NEARLY))
    assert noted[0].about == noted[1].about
    assert [edit.to_json() for edit in retell(noted, found(LUNG))] == [click(1), delete(1)]
    assert retell(noted, found(OTHER)) == ()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        pytest.param([click(3)], "region 3: no such region; expected 1 to 2", id="no such region"),
        pytest.param([delete(1)] * 3, "region 1: no such region; expected none here", id="none is left"),
        pytest.param([{**click(1), "about": "it"}], "edit 1: about 'it'", id="about no region"),
        pytest.param([{**click(1), "about": {"label": "lung", "box": [1]}}], "'box'", id="about no box"),
        pytest.param(["click"], "edit 1: action None", id="no edit"),
        pytest.param("click", "str, not a list", id="no list"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_edits_is_refused(given, sentence):
    with pytest.raises(InputError) as refused:
        note(given, found(LUNG, OTHER))
    assert sentence in str(refused.value)
