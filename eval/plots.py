"""Pictures of the table."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

from hub.files import replace_path

matplotlib.use("Agg")
from matplotlib.figure import Figure

#: Whose boxes a row outlines: the shape of its mark, and what the legend says.
_BOXES = {
    "automatic": ("o", "automatic boxes"),
    "ours": ("s", "our boxes"),
    "true": ("^", "true boxes"),
    "none": ("D", "no boxes"),
    "everything": ("*", "an oracle's choice"),
}
#: Okabe and Ito's colours, which the colour-blind can tell apart.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000")


def plot_speed(results: dict, out: Path) -> None:
    """Dice against milliseconds; a mark's size is that of the weights, its shape says whose boxes they are."""
    rows = list(_measured(results).values())
    figure = Figure(figsize=(7, 4.5 + _legend_height(rows)), layout="constrained")
    axes = figure.subplots()
    for number, row in enumerate(rows):
        dice, times = row["figures"]["macro"]["dice"], row["figures"]["milliseconds"]
        if dice is None:
            continue
        error = [[dice["mean"] - dice["low"]], [dice["high"] - dice["mean"]]]
        mark = _BOXES[row["boxes"]][0]
        colour = _COLOURS[number % len(_COLOURS)]
        size = 4 + 1.2 * np.sqrt((row.get("bytes") or 0) / 1e6)
        place = (max(times["p50"], 0.1), dice["mean"])
        axes.errorbar(*place, error, fmt=mark, color=colour, capsize=3, markersize=size, alpha=0.8, label=_label(row))
    axes.set(xscale="log", xlabel="milliseconds an image (median)", ylabel="Dice, mean over sources")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", fontsize=7, markerscale=0.5, ncols=2)
    _save(figure, out)


def plot_sources(results: dict, out: Path) -> None:
    """Dice a source, a bar a row."""
    rows = list(_measured(results).values())
    names = list(dict.fromkeys(name for row in rows for name in row["figures"]["sources"]))
    figure = Figure(figsize=(11, 4.5 + _legend_height(rows)), layout="constrained")
    axes = figure.subplots()
    width = 0.85 / max(1, len(rows))
    for number, row in enumerate(rows):
        heights = [row["figures"]["sources"].get(name, {}).get("dice") or 0 for name in names]
        colour, hatch = _COLOURS[number % len(_COLOURS)], "//" * (number // len(_COLOURS))
        places = np.arange(len(names)) + number * width
        axes.bar(places, heights, width, label=_label(row), color=colour, hatch=hatch, edgecolor="white", linewidth=0)
    axes.set_xticks(np.arange(len(names)) + 0.4, names, rotation=15, fontsize=8)
    axes.set(ylabel="Dice", ylim=(0, 1))
    figure.legend(loc="outside lower center", fontsize=7, ncols=2)
    _save(figure, out)


def plot_sensitivity(results: dict, out: Path) -> None:
    """Agreement with fp32 against milliseconds, a panel a graph; without times, a bar a variant."""
    graphs = list(dict.fromkeys(row["graph"] for row in results["variants"].values()))
    figure = Figure(figsize=(6.5 * len(graphs), 5.5), layout="constrained")
    for axes, graph in zip(figure.subplots(1, len(graphs), squeeze=False)[0], graphs, strict=True):
        own = {name: row for name, row in results["variants"].items() if row["graph"] == graph}
        lost = [1 - row["agreement"] for row in own.values()]
        times = [results["times"].get(name, {}).get("ms") for name in own]
        if None in times:
            axes.barh(range(len(own)), lost, color=_COLOURS[0])
            axes.set_yticks(range(len(own)), [row["title"] for row in own.values()], fontsize=7)
            axes.set(xlabel="1 - agreement with fp32's masks", title=graph)
            continue
        for number, (row, ms, loss) in enumerate(zip(own.values(), times, lost, strict=True)):
            axes.plot(ms, loss, "o", color=_COLOURS[number % len(_COLOURS)])
            axes.annotate(row["title"], (ms, loss), xytext=(4, 2), textcoords="offset points", fontsize=6)
        axes.set(xlabel="milliseconds of the graph", ylabel="1 - agreement with fp32's masks", title=graph)
        axes.grid(alpha=0.3)
    _save(figure, out)


def _label(row: dict) -> str:
    """What a row is called in a legend: its title, without what a training of it cost, and its boxes."""
    return f"{row['title'].partition(':')[0]} ({_BOXES[row['boxes']][1]})"


def _legend_height(rows: list[dict]) -> float:
    """Inches below the axes, for two columns."""
    return 0.16 * (-(-len(rows) // 2) + 1)


def _measured(results: dict) -> dict:
    return {name: row for name, row in results["rows"].items() if "figures" in row}


def _save(figure: Figure, out: Path) -> None:
    with replace_path(out) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
