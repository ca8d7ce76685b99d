"""How a release's figures hold on images as another hospital's devices might give them.

No data set here has a second hospital, so its devices are drawn: the changes of `pipeline.training.other_device`, each
alone and some together, and MRI turned by right angles, as slices are that were saved along their file's axes. A row is
one of them, on the same images; what it loses against the first is what the release would lose. A release that was
trained on such changes has seen their kind, though never these images.
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
from hub.tables import markdown_table
from pipeline.datasets import Region, Sample, Source
from pipeline.geometry import box_of_mask
from pipeline.training.other_device import CHANGES, other_device

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def changed(sample: Sample, change: Change, seed: int) -> Sample:
    """A sample whose pixels look as if from another device, the same each time it is loaded."""

    def load(**options: bool) -> tuple[np.ndarray, list[Region]]:
        pixels, regions = sample.load(**options)
        return change(pixels, np.random.default_rng(seed)), regions

    return replace(sample, load=load)


def turned(sample: Sample, seed: int) -> Sample:
    """A sample turned by one to three right angles, with its regions, the same each time it is loaded."""
    quarters = int(np.random.default_rng(seed).integers(1, 4))

    def turn(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.rot90(array, quarters))

    def load(**options: bool) -> tuple[np.ndarray, list[Region]]:
        pixels, regions = sample.load(**options)
        own = [(region.label, turn(region.mask)) for region in regions]
        return turn(pixels), [Region(label, box_of_mask(mask), mask) for label, mask in own]

    return replace(sample, load=load)


#: What a sample becomes, given its source and a seed.
Device = Callable[[Source, Sample, int], Sample]


def _device_of(change: Change) -> Device:
    return lambda _, sample, seed: changed(sample, change, seed)


def _several(source: Source, sample: Sample, seed: int) -> Sample:
    return changed(sample, lambda pixels, rng: other_device(pixels, source.modality, rng), seed)


def _turned(source: Source, sample: Sample, seed: int) -> Sample:
    return turned(sample, seed) if "MRI" in source.modality else sample


#: The rows after the first, by name.
DEVICES: dict[str, Device] = {change.__name__.replace("_", " "): _device_of(change) for change in CHANGES}
DEVICES |= {"several": _several, "turned (MRI)": _turned}


def as_markdown(rows: dict[str, dict]) -> str:
    """A table of Dice: a row a change, a column a source, then the mean and the box recall."""
    sources = list(next(iter(rows.values()))["sources"])
    lines = []
    for name, figures in rows.items():
        macro = figures["macro"]
        own = [figures["sources"].get(source, {}).get("dice") for source in sources]
        lines.append([name, *map(_cell, (*own, macro["dice"], macro["box_recall_50"]))])
    return markdown_table(["", *sources, "mean", "box recall"], lines)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


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
    for name, device in DEVICES.items():
        others = [(source, device(source, sample, seed)) for seed, (source, sample) in enumerate(samples)]
        rows[name] = manifest_figures(list(measure_row(name, ready, others, {})))
    command = f"python -m eval devices --data DATA --split {arguments.split} --limit {arguments.limit}"
    command += f" --precision {arguments.precision}"
    command += " --true-boxes" if arguments.true_boxes else ""
    with replace_file(arguments.out) as file:
        json.dump(about(arguments.split, command) | {"rows": rows}, file, indent=1)
    print(as_markdown(rows))
    return 0
