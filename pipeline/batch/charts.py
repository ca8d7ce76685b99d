"""Bar charts as inline SVG: a report needs no library and no other file to be seen."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_WIDTH, _HEIGHT, _BOTTOM, _TOP = 420, 150, 18, 16


def bar_chart(counts: Sequence[int], ends: tuple[str, str], colour: str, what: str) -> str:
    """A histogram. `ends` stand below the first and the last bar, `what` is read to those who can't see it."""
    highest, width = max([*counts, 1]), _WIDTH / max(1, len(counts))
    bars = []
    for place, count in enumerate(counts):
        height = (_HEIGHT - _BOTTOM - _TOP) * count / highest
        top = _HEIGHT - _BOTTOM - height
        bars.append(
            f'<rect x="{place * width + 1:.1f}" y="{top:.1f}" width="{width - 2:.1f}" height="{height:.1f}">'
            f"<title>{count}</title></rect>"
        )
    base = _HEIGHT - 4
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(what)}">'
        f'<g fill="{colour}">{"".join(bars)}</g>'
        f'<line x1="0" x2="{_WIDTH}" y1="{_HEIGHT - _BOTTOM}" y2="{_HEIGHT - _BOTTOM}" stroke="#888"/>'
        f'<text x="0" y="{base}">{escape(ends[0])}</text>'
        f'<text x="{_WIDTH}" y="{base}" text-anchor="end">{escape(ends[1])}</text>'
        f'<text x="0" y="{_TOP - 5}">{highest}</text></svg>'
    )
