"""Tables in Markdown."""

from __future__ import annotations

import pytest

from hub.tables import markdown_table


@pytest.mark.parametrize(
    ("rows", "texts", "expected"),
    [
        ([], 1, "| a | b | c |\n| --- | ---: | ---: |"),
        ([("x", 1, 0.5)], 1, "| a | b | c |\n| --- | ---: | ---: |\n| x | 1 | 0.5 |"),
        ([("x", None, ""), ("y", "z", 0)], 2, "| a | b | c |\n| --- | --- | ---: |\n| x | | |\n| y | z | 0 |"),
        (iter([("x", "y", "z")]), 3, "| a | b | c |\n| --- | --- | --- |\n| x | y | z |"),
    ],
    ids=["no row", "numbers end at the right", "nothing is an empty cell", "texts begin at the left"],
)
def test_a_table(rows, texts, expected):
    assert markdown_table(("a", "b", "c"), rows, texts) == expected
