"""Two releases side by side: sizes, classes, figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hub.card import COLUMNS
from hub.release import Release, precision_rank
from hub.tables import markdown_table

_NOTHING = "-"


def difference(first: Release, second: Release) -> str:
    """What two releases differ in, as a Markdown table: a row a thing, a column a release, and what changed."""
    rows = [*_files(first, second), *_classes(first, second), *_figures(first, second)]
    lines = [markdown_table(("", _name(first), _name(second), "change"), rows)]
    splits = {release.manifest.get("figures", {}).get("split", "test") for release in (first, second)}
    if len(splits) > 1:
        lines += ["", f"The figures are of different splits: {', '.join(sorted(splits))}."]
    return "\n".join(lines)


def _name(release: Release) -> str:
    return f"{release.version}{f' ({release.commit[:12]})' if release.commit else ''}"


def _files(first: Release, second: Release) -> Iterator[tuple[str, ...]]:
    entries = [release.manifest["files"] for release in (first, second)]
    precisions = {name: True for release in (first, second) for name in release.precisions}
    for precision in sorted(precisions, key=precision_rank):
        sizes = [
            sum(entry["bytes"] for name, entry in files.items() if name.startswith(f"onnx/{precision}/")) or None
            for files in entries
        ]
        yield f"onnx/{precision}, MB", *_pair([size and size / 1e6 for size in sizes], 1)
    for name in sorted({*entries[0], *entries[1]}):
        digests = [files.get(name, {}).get("sha256") for files in entries]
        if digests[0] != digests[1]:
            told = [digest[:12] if digest else _NOTHING for digest in digests]
            yield name, *told, "added" if not digests[0] else "removed" if not digests[1] else "other content"


def _classes(first: Release, second: Release) -> Iterator[tuple[str, ...]]:
    by_name = [{entry["name"]: entry["id"] for entry in release.config["classes"]} for release in (first, second)]
    for name in dict.fromkeys([*by_name[0], *by_name[1]]):
        ids = [classes.get(name) for classes in by_name]
        said = "" if ids[0] == ids[1] else "added" if ids[0] is None else "removed" if ids[1] is None else "other id"
        yield f"class {name}, id", *(_NOTHING if id_ is None else str(id_) for id_ in ids), said


def _figures(first: Release, second: Release) -> Iterator[tuple[str, ...]]:
    figures = [release.manifest.get("figures", {}) for release in (first, second)]
    measured = {name: True for part in figures for name, value in part.items() if isinstance(value, Mapping)}
    for precision in sorted((name for name in measured if _has_figures(figures, name)), key=precision_rank):
        parts = [part.get(precision) or {} for part in figures]
        sources = dict.fromkeys(name for part in parts for name in part.get("sources", {}))
        for name in (*sources, "mean over sources"):
            cells = [
                part.get("sources", {}).get(name, {}) if name in sources else part.get("macro", {}) for part in parts
            ]
            for key, head in COLUMNS.items():
                values = [cell.get(key) for cell in cells]
                if values != [None, None]:
                    yield f"{name}, {head} {precision}", *_pair(values, 3)
        medians = [part.get("total_ms_median") for part in parts]
        if medians != [None, None]:
            yield f"median time {precision}, ms", *_pair(medians, 0)


def _has_figures(figures: list[Mapping], precision: str) -> bool:
    return any(isinstance(part.get(precision), Mapping) and "macro" in part[precision] for part in figures)


def _pair(values: list[float | None], digits: int) -> tuple[str, str, str]:
    told = [_NOTHING if value is None else f"{value:.{digits}f}" for value in values]
    known = None not in values
    return told[0], told[1], f"{values[1] - values[0]:+.{digits}f}" if known else ""
