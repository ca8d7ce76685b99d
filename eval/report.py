"""The table as text: from results.json to Markdown and CSV. Needs no more than Python, so that tests can check it."""

from __future__ import annotations

from eval.published import published
from eval.questions import boxes_answer, quantization_lines
from eval.row import REFERENCE
from hub.tables import markdown_table

COLUMNS = (
    "row",
    "boxes",
    "images",
    "sources",
    "Dice",
    "95 %",
    "IoU",
    "NSD",
    "box recall",
    "box IoU",
    "AP50",
    "AP50-95",
    "Dice against ours",
    "MB",
    "ms",
    "published",
)
_BOX_COLUMNS = {"box recall": "recall_50", "box IoU": "matched_iou", "AP50": "ap50", "AP50-95": "ap50_95"}
#: How the column `boxes` calls them.
_BOXES = {"everything": "none: the best of all its masks (an oracle's choice)", "none": "none needed"}
#: Behind the title of a row that an earlier table had.
_KEPT = " (kept)"
_NOTES = (
    "Brackets are 95 % intervals by patient. Against ours means on the same images, whatever sources a row has. "
    "MB is the size of the weights, ms the median time of an image. What was published is not measured here."
)


def table_lines(results: dict) -> list[list[str]]:
    """The cells of every row, `COLUMNS` first; a row that did not run, or that lacks its weights, has its reason."""
    return [list(COLUMNS), *(_cells(name, row, results) for name, row in results["rows"].items())]


def _cells(name: str, row: dict, results: dict) -> list[str]:
    figures = row.get("figures")
    cells = dict.fromkeys(COLUMNS, "")
    cells |= {"row": row["title"] + (_KEPT if "kept" in row else ""), "boxes": _BOXES.get(row["boxes"], row["boxes"])}
    cells["published"] = published(name)
    cells["images"] = str(figures["images"] if figures else 0)
    size = row.get("bytes") or results.get("sizes", {}).get(name.removesuffix("-true"))
    if size:
        cells["MB"] = f"{size / 1e6:.1f}"
    times = row.get("milliseconds") or (figures or {}).get("milliseconds")
    if times:
        cells["ms"] = f"{times['p50']:.0f}"
    if not figures:
        cells["Dice"] = (row.get("absent") or f"not run: {row.get('reason', '')}").replace("|", "/")
        return list(cells.values())
    boxes, less, macro = figures["boxes"] or {}, figures["less_than_reference"], figures["macro"]
    cells |= {"sources": str(len(figures["sources"])), "Dice": _number(macro["dice"]), "95 %": _range(macro["dice"])}
    cells |= {"IoU": _number(macro["iou"]), "NSD": _number(macro["nsd"])}
    for column, key in _BOX_COLUMNS.items():
        cells[column] = f"{boxes[key]:.3f}" if boxes.get(key) is not None else ""
    if less and name != REFERENCE:
        cells["Dice against ours"] = f"{less['mean']:+.3f} ({_range(less, '+')})"
    return list(cells.values())


def summary_lines(results: dict) -> list[str]:
    """The README's table: of every row what it reaches, what it weighs and what it takes, and how it was measured."""
    lines = [["row", "boxes", "sources", "Dice", "IoU", "Dice against ours", "MB", "ms"]]
    for cells in table_lines(results)[1:]:
        row = dict(zip(COLUMNS, cells, strict=True))
        measured = row["images"] != "0"
        dice = f"{row['Dice']} ({row['95 %']})" if measured else row["Dice"].split(":")[0]
        kept = [row[name] for name in lines[0]]
        lines.append([*kept[:3], dice, *kept[4:]])
    why = "Why a row has no figures stands in [eval/results/table/table.md](eval/results/table/table.md)."
    lacking = any("figures" not in row for row in results["rows"].values())
    return [_ruled(lines), "", _origin(results), *(["", why] if lacking else [])]


def _number(value: dict | None) -> str:
    return "" if value is None else f"{value['mean']:.3f}"


def _range(value: dict | None, sign: str = "") -> str:
    return "" if value is None else f"{value['low']:{sign}.3f} to {value['high']:{sign}.3f}"


def markdown(results: dict) -> str:
    """table.md: the table, Dice a source, the questions' answers, and how it was measured."""
    parts = [
        [_ruled(table_lines(results))],
        ["Dice a source:"],
        [_source_table(results)],
        boxes_answer(results),
        quantization_lines(results),
        [_origin(results)],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _ruled(lines: list[list[str]]) -> str:
    return markdown_table(lines[0], lines[1:], texts=len(lines[0]))


def _origin(results: dict) -> str:
    said = (
        f"The {results['split']} split, release {results['weights']['version']}, {results['machine']}, "
        f"revision {results['revision']}. {_NOTES}"
    )
    origins = (row["kept"] for row in results["rows"].values() if "kept" in row)
    kept = (f"Kept are rows measured on {at['date']}, {at['machine']}, revision {at['revision']}." for at in origins)
    return " ".join([said, *dict.fromkeys(kept)])


def _source_table(results: dict) -> str:
    rows = [row for row in results["rows"].values() if "figures" in row]
    names = list(dict.fromkeys(name for row in rows for name in row["figures"]["sources"]))
    lines = []
    for row in rows:
        cells = [row["figures"]["sources"].get(name, {}).get("dice") for name in names]
        boxes = _BOXES.get(row["boxes"], row["boxes"])
        lines.append((row["title"], boxes, *(None if cell is None else f"{cell:.3f}" for cell in cells)))
    return markdown_table(("row", "boxes", *names), lines, texts=2)
