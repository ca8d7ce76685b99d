"""Edits as JSON: what is taken, what is refused in one sentence."""

from __future__ import annotations

import pytest

from pipeline.edits import Edit, read_edits
from pipeline.errors import InputError


@pytest.mark.parametrize(
    ("given", "edit"),
    [
        ({"action": "add", "box": [1, 2, 3, 4]}, Edit("add", box=(1.0, 2.0, 3.0, 4.0))),
        ({"action": "add", "box": [1, 2, 3, 4], "label": "lung"}, Edit("add", box=(1.0, 2.0, 3.0, 4.0), label="lung")),
        ({"action": "box", "region": 2, "box": [1, 2, 3, 4]}, Edit("box", region=2, box=(1.0, 2.0, 3.0, 4.0))),
        ({"action": "click", "region": 1, "point": [5, 6]}, Edit("click", region=1, point=(5.0, 6.0))),
        (
            {"action": "click", "region": 1, "point": [5, 6], "inside": False},
            Edit("click", region=1, point=(5.0, 6.0), inside=False),
        ),
        ({"action": "relabel", "region": 1, "label": "polyp"}, Edit("relabel", region=1, label="polyp")),
        ({"action": "delete", "region": 3, "box": None}, Edit("delete", region=3)),
    ],
    ids=["add", "add with a label", "box", "click", "click outside", "relabel", "delete, nulls are left out"],
)
def test_an_edit_is_read_and_written(given, edit):
    assert read_edits([given]) == (edit,)
    assert edit.to_json() == {name: value for name, value in given.items() if value is not None}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("delete", "edits: str, not a list; expected a list such as"),
        ([{"action": "delete", "region": 1}] * 201, "edits: 201 of them; expected at most 200"),
        ([7], "edit 1: action None; expected add, box, click, relabel, delete"),
        ([{"action": "paint"}], "edit 1: action 'paint'"),
        ([{"action": ["add"]}], "edit 1: action ['add']"),
        ([{"action": "delete", "region": 1}, {"action": "delete"}], "edit 2: delete with a wrong or lacking 'region'"),
        ([{"action": "delete", "region": 0}], "wrong or lacking 'region'"),
        ([{"action": "delete", "region": True}], "wrong or lacking 'region'"),
        ([{"action": "add", "box": [1, 2, 3]}], "wrong or lacking 'box'"),
        ([{"action": "add", "box": [1, 2, 0, 4]}], "wrong or lacking 'box'"),
        ([{"action": "add", "box": [1, 2, float("nan"), 4]}], "wrong or lacking 'box'"),
        ([{"action": "click", "region": 1, "point": ["a", 1]}], "wrong or lacking 'point'"),
        ([{"action": "click", "region": 1, "point": [1, 1], "inside": 1}], "wrong or lacking 'inside'"),
        ([{"action": "relabel", "region": 1, "label": 3}], "wrong or lacking 'label'"),
        ([{"action": "delete", "region": 1, "colour": "red"}], "wrong or lacking 'colour'"),
    ],
)
def test_what_is_no_edit_is_refused(given, sentence):
    with pytest.raises(InputError) as refused:
        read_edits(given)
    assert sentence in str(refused.value)
