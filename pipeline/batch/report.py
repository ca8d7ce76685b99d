"""The report of a batch: one HTML file that needs no other."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from statistics import median

from hub.files import replace_file
from pipeline.batch.charts import bar_chart
from pipeline.batch.summary import Label, Summary, summarise
from pipeline.batch.thumbnails import thumbnail
from pipeline.overlay import class_colour
from pipeline.results import NOTICE

NAME = "report.html"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222; }
h1 { margin-bottom: 0 } .notice { font-weight: 600; } table { border-collapse: collapse; }
th, td { text-align: left; padding: .2em 1em .2em 0; border-bottom: 1px solid #ddd; vertical-align: top; }
td.number { text-align: right; } svg { width: 100%; max-width: 420px; height: auto; } svg text { font-size: 11px; }
.pair { display: flex; flex-wrap: wrap; gap: 2em; } .pair > div { flex: 1 1 320px; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(160px, 1fr)); gap: 1em; }
figure { margin: 0; } img { max-width: 100%; background: #000; } figcaption { font-size: 12px;
overflow-wrap: anywhere; }
"""


def write_report(out: Path, settings: dict) -> Path:
    """Write `report.html` beside the tables that it is made of."""
    path = out / NAME
    with replace_file(path) as file:
        file.write(make_report(summarise(out), out, settings))
    return path


def make_report(summary: Summary, out: Path, settings: dict) -> str:
    """The report as HTML."""
    weights = f"{settings['weights']['version']} ({settings['weights']['sha256'][:12]})"
    parts = [
        "<h1>AutoMedSeg: report of a batch</h1>",
        f'<p class="notice">{NOTICE}</p>',
        f"<p>Weights {escape(weights)}, {escape(settings['precision'])}.</p>",
        "<h2>Counts</h2>",
        _table(["", "inputs"], _counts(summary)),
        "<h2>What was found</h2>",
        _table(["class", "regions", "inputs with it"], [(n, lb.regions, lb.inputs) for n, lb in _labels(summary)]),
        *(_distributions(name, label) for name, label in _labels(summary)),
        _sheet("Most sure", summary.most_sure, out),
        _sheet("Least sure", summary.least_sure, out),
        "<h2>Failures</h2>",
        _failures(summary),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>AutoMedSeg: report of a batch</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _labels(summary: Summary) -> list[tuple[str, Label]]:
    return sorted(summary.labels.items(), key=lambda item: item[1].class_id)


def _counts(summary: Summary) -> list[tuple[str, object]]:
    rows = [("all", sum(summary.statuses.values())), ("segmented", summary.statuses["done"])]
    rows += [(f"of them {kind}s", count) for kind, count in sorted(summary.kinds.items())]
    rows += [("nothing found in", summary.nothing_found), ("unlike all that the weights know", summary.out_of_scope)]
    rows += [("failed", summary.statuses["failed"])]
    if summary.total_ms:
        rows.append(("median milliseconds an input, in one worker", round(median(summary.total_ms))))
    return rows


def _distributions(name: str, label: Label) -> str:
    red, green, blue = class_colour(label.class_id)
    colour = f"rgb({red},{green},{blue})"
    charts = [("score", bar_chart(label.scores, ("0", "1"), colour, f"scores of {name}"))]
    if any(label.pixels):
        charts.append(("area", bar_chart(label.pixels, ("1 pixel", "10^8, log"), colour, f"areas of {name}")))
    if any(label.millilitres):
        charts.append(("volume", bar_chart(label.millilitres, ("0.001 ml", "10^5, log"), colour, f"volumes of {name}")))
    drawn = "".join(f"<div>{escape(title)}<br>{chart}</div>" for title, chart in charts)
    return f'<h3>{escape(name)}</h3><div class="pair">{drawn}</div>'


def _sheet(title: str, entries: list[tuple[float, str, str]], out: Path) -> str:
    """Pictures of inputs, by the score of their surest region."""
    figures = []
    for score, name, place in entries:
        picture = thumbnail(out / place)
        shown = f'<img src="{picture}" alt="">' if picture else ""
        figures.append(f"<figure>{shown}<figcaption>{score:.2f} {escape(name)}</figcaption></figure>")
    return f'<h2>{escape(title)}</h2><div class="sheet">{"".join(figures) or "<p>None.</p>"}</div>'


def _failures(summary: Summary) -> str:
    if not summary.failures:
        return "<p>None.</p>"
    ordered = sorted(summary.failures.items(), key=lambda item: -item[1].count)
    return _table(
        ["what was wrong", "inputs", "such as"],
        [(problem, failure.count, "\n".join(failure.sentences)) for problem, failure in ordered],
    )


def _table(heading: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heading)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f'<td class="number">{value:,}</td>'
    return f"<td>{'<br>'.join(escape(line) for line in str(value).splitlines())}</td>"
