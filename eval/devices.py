"""How a release's figures hold on images as another hospital's devices might give them.

No data set here has a second hospital, so its devices are drawn: the changes of `pipeline.training.other_device`, each
alone and some together. A row is one of them, on the same images; what it loses against the first is what the release
would lose. A release that was trained on such changes has seen their kind, though never these images.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from eval.figures import about, manifest_figures
from eval.measure import chosen, measure_row, read_sources
from eval.row import Setting
from eval.rows import ROWS
from hub.files import replace_file
from hub.resolve import resolve
from pipeline.datasets import Region, Sample
from pipeline.training.other_device import CHANGES, other_device

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def changed(sample: Sample, change: Change, seed: int) -> Sample:
    """A sample whose pixels look as if from another device, the same each time it is loaded."""

    def load(**options: bool) -> tuple[np.ndarray, list[Region]]:
        pixels, regions = sample.load(**options)
        return change(pixels, np.random.default_rng(seed)), regions

    return replace(sample, load=load)


def changes_of(modality: str) -> dict[str, Change]:
    """Name -> change, of the rows after the first."""
    alone = {change.__name__.replace("_", " "): change for change in CHANGES}
    return alone | {"several": lambda pixels, rng: other_device(pixels, modality, rng)}


def as_markdown(rows: dict[str, dict]) -> str:
    """A table of Dice: a row a change, a column a source, then the mean and the box recall."""
    sources = list(next(iter(rows.values()))["sources"])
    lines = [["", *sources, "mean", "box recall"], ["---"] + ["---:"] * (len(sources) + 2)]
    for name, figures in rows.items():
        own = [figures["sources"][source]["dice"] for source in sources]
        lines.append([name, *(f"{value:.3f}" for value in (*own, *_macro(figures)))])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _macro(figures: dict) -> tuple[float, float]:
    return figures["macro"]["dice"], figures["macro"]["box_recall_50"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder that holds the data sets")
    parser.add_argument("--split", choices=("train", "val", "test"), default="test")
    parser.add_argument("--weights", default="embedded", help="'embedded', a release folder, or user/repo@revision")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--limit", type=int, default=210, help="images, evenly from the sources (default %(default)s)")
    parser.add_argument("--true-boxes", action="store_true", help="prompt with the true boxes: a perfect detector")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON of the figures")


def run(arguments: argparse.Namespace) -> int:
    classes = tuple(entry["name"] for entry in resolve(arguments.weights).config["classes"])
    samples = chosen(read_sources(arguments.data, classes), arguments.split, arguments.limit)
    row = ROWS[f"{arguments.precision}-true" if arguments.true_boxes else arguments.precision]
    ready = row.open(Setting(arguments.weights, arguments.threads, arguments.split))
    rows = {"as it is": manifest_figures(list(measure_row(row.name, ready, samples, {})))}
    for name in changes_of(""):
        others = [
            (source, changed(sample, changes_of(source.modality)[name], seed))
            for seed, (source, sample) in enumerate(samples)
        ]
        rows[name] = manifest_figures(list(measure_row(name, ready, others, {})))
    command = f"python -m eval devices --data DATA --split {arguments.split} --limit {arguments.limit}"
    command += " --true-boxes" if arguments.true_boxes else ""
    with replace_file(arguments.out) as file:
        json.dump(about(arguments.split, command) | {"rows": rows}, file, indent=1)
    print(as_markdown(rows))
    return 0
