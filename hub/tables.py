"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]], texts: int = 1) -> str:
    """A table as GitHub and the Hub show it, without a line break at its end.

    Parameters
    ----------
    head
        The columns' titles.
    rows
        A cell a column, shown as `str` has it; None is an empty one.
    texts
        So many columns, from the first on, begin at the left; the others end at the right, as numbers do.
    """
    rule = ["---"] * texts + ["---:"] * (len(head) - texts)
    return "\n".join("|" + "".join(map(_cell, cells)) for cells in (head, rule, *rows))


def _cell(value: object) -> str:
    return " |" if value in (None, "") else f" {value} |"
