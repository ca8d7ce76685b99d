"""How long one image takes: warm and cold, a stage at a time, beside other networks in the same run.

The contenders take turns, image by image, so that whatever else the machine does strikes them alike; a ratio is of two
runs of the same turn. Cold is a process of its own. The image holds one object.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
from tqdm import tqdm

from eval.contenders import CONTENDERS, STAGES, Setting
from eval.machine import int8_instructions, say_int8
from eval.measured import write_measured
from eval.processes import run_once, segment_once
from hub import WeightsError, resolve
from hub.revision import git_revision, machine_name
from hub.tables import markdown_table
from pipeline import AutoSegmenter
from pipeline.errors import InputError
from pipeline.phantoms import write_phantoms
from pipeline.runtime import available_cores
from pipeline.scan import read_scan

#: The row that all others are divided by.
BASE = "int8"


def warm(names: list[str], setting: Setting, pixels: np.ndarray, rounds: int) -> tuple[dict, dict[str, str]]:
    """({row: {stage: [ms a round]}}, {row: why it did not run}) of contenders that take turns."""
    opened, reasons = {}, {}
    for name in names:
        try:
            opened[name] = CONTENDERS[name].open(setting)
        except (InputError, WeightsError) as error:
            reasons[name] = str(error)
    for _ in range(2):
        for run in opened.values():
            run(pixels)
    times: dict[str, dict[str, list[float]]] = {name: {} for name in opened}
    for _ in tqdm(range(rounds), desc=f"{setting.threads} threads", unit="round", disable=None):
        for name, run in opened.items():
            for stage, ms in run(pixels).items():
                times[name].setdefault(stage, []).append(ms)
    objects = {name: run.objects for name, run in opened.items() if run.objects != 1}
    if objects:
        found = ", ".join(f"{name} {count}" for name, count in objects.items())
        raise InputError("--image", f"objects found in it: {found}", "an image with one object")
    return times, reasons


def summarise(times: dict[str, dict[str, list[float]]]) -> dict[str, dict]:
    """Of each row: p50 and p90 a stage in ms, and p10, p50, p90 of its total as a multiple of int8's in that round."""
    rows = {}
    for name, stages in times.items():
        rows[name] = {"ms": {stage: _percentiles(ms, (50, 90)) for stage, ms in stages.items()}}
        if BASE in times:
            ratios = np.array(stages["total"]) / np.array(times[BASE]["total"])
            rows[name]["times_int8"] = _percentiles(ratios, (10, 50, 90), 3)
    return rows


def cold(name: str, setting: Setting, image: Path, repeats: int) -> dict[str, dict]:
    """Medians over fresh processes: the networks opened and run once, and for ours the whole command."""
    first = [run_once(name, setting.weights, setting.exports, setting.threads, image) for _ in range(repeats)]
    rows = {"first_run": _medians(first)}
    precision = CONTENDERS[name].precision
    if precision:
        command = [segment_once(image, setting.weights, precision, setting.threads) for _ in range(repeats)]
        rows["segment_command"] = _medians(command)
    return rows


def measure(names: list[str], setting: Setting, image: Path, threads: list[int], rounds: int, repeats: int) -> dict:
    """Everything of `python -m eval latency`, as latency.json holds it."""
    pixels, release = read_scan(image).pixels, resolve(setting.weights)
    by_threads, reasons = {}, {}
    for count in threads:
        times, reasons = warm(names, Setting(setting.weights, setting.exports, count), pixels, rounds)
        by_threads[str(count)] = summarise(times)
    ran = [name for name in names if name not in reasons]
    return {
        "weights": release.identity,
        "image": {"height": pixels.shape[0], "width": pixels.shape[1], "objects": 1},
        "rounds": rounds,
        "machine": machine_name(),
        "int8_instructions": int8_instructions(),
        "onnxruntime": onnxruntime.__version__,
        "revision": git_revision(),
        "date": time.strftime("%Y-%m-%d"),
        "titles": {name: CONTENDERS[name].title for name in names},
        "not_run": reasons,
        "bytes": {name: sum(path.stat().st_size for path in CONTENDERS[name].files(setting)) for name in ran},
        "warm": by_threads,
        "cold": {name: cold(name, setting, image, repeats) for name in (ran if repeats else [])},
    }


def make_tables(results: dict) -> str:
    """Markdown."""
    parts = []
    for threads, rows in results["warm"].items():
        head = ["row", *STAGES[:-1], "total", "p90", "times int8 (p10 to p90)", "MB on disk"]
        lines = []
        for name, row in rows.items():
            stages = [_ms(row["ms"].get(stage)) for stage in STAGES]
            ratio = row.get("times_int8")
            times = f"{ratio['p50']:.2f} ({ratio['p10']:.2f} to {ratio['p90']:.2f})" if ratio else ""
            size = f"{results['bytes'][name] / 1e6:.1f}"
            lines.append((results["titles"][name], *stages, _ms(row["ms"]["total"], "p90"), times, size))
        warm = f"Warm, {threads} thread{'s' * (threads != '1')}, milliseconds (p50):"
        parts += [warm, markdown_table(head, lines)]
    if results["cold"]:
        head = ["row", "graphs opened", "first image", "peak MB", "`segment` as a whole", "its peak MB"]
        lines = []
        for name, row in results["cold"].items():
            first, command = row["first_run"], row.get("segment_command", {})
            cells = [first["open_ms"], first["first_ms"], first["peak_mb"]]
            cells += [command.get("wall_ms"), command.get("peak_mb")]
            lines.append((results["titles"][name], *(None if cell is None else f"{cell:.0f}" for cell in cells)))
        parts += ["Cold, a process of its own, milliseconds and MB:", markdown_table(head, lines)]
    parts += [f"Not run: {results['titles'][name]}: {why}" for name, why in results["not_run"].items()]
    parts.append(
        f"Release {results['weights']['version']} ({results['weights']['sha256'][:12]}), {results['machine']},"
        f" onnxruntime {results['onnxruntime']}, revision {results['revision'][:12]}, {results['rounds']} rounds, an"
        f" image of {results['image']['width']}x{results['image']['height']} pixels with one object."
        f" {say_int8(results['int8_instructions'])}"
    )
    return "\n\n".join(parts) + "\n"


def phantom_with_one_object(folder: Path, weights: str, precisions: list[str]) -> Path:
    """A drawn image in which the release finds one region in each precision. Raises InputError where there is none."""
    segmenters = [AutoSegmenter.from_release(weights, precision) for precision in precisions]
    for path, _ in write_phantoms(folder):
        if all(len(segment(path)) == 1 for segment in segmenters):
            return path
    raise InputError("--image", "the release finds one object in none of the drawn images", "an image with one object")


def _ms(value: dict | None, percentile: str = "p50") -> str:
    return "" if value is None else f"{value[percentile]:.1f}"


def _percentiles(values, percents: tuple[int, ...], digits: int = 2) -> dict[str, float]:
    return {f"p{percent}": round(float(np.percentile(values, percent)), digits) for percent in percents}


def _medians(rows: list[dict]) -> dict[str, float | None]:
    names = rows[0].keys()
    return {n: None if rows[0][n] is None else round(float(np.median([row[n] for row in rows])), 1) for n in names}


def _names(text: str) -> list[str]:
    names = text.split(",")
    strange = [name for name in names if name not in CONTENDERS]
    if strange:
        raise argparse.ArgumentTypeError(f"no row {strange[0]!r}; expected some of {', '.join(CONTENDERS)}")
    return names


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = [0]
    if min(counts) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected numbers of threads from 1, separated by commas")
    return counts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--weights", default="embedded", help="'embedded', a release folder, or user/repo@revision")
    add("--out", type=Path, required=True, metavar="DIR", help="latency.json and latency.md")
    add("--rows", type=_names, default=list(CONTENDERS), metavar="A,B", help=f"some of {', '.join(CONTENDERS)}")
    add("--image", type=Path, metavar="FILE", help="an image with one object (default: a drawn one)")
    default = sorted({1, available_cores()})
    add("--threads", type=_counts, default=default, metavar="N,M", help="CPU threads (default: one, and all cores)")
    add("--rounds", type=int, default=20, metavar="N", help="how often each takes its turn (default %(default)s)")
    add("--cold", type=int, default=3, metavar="N", help="fresh processes a row; 0 for none (default %(default)s)")
    text = "where the other networks' graphs lie; made there in the build environment (default: OUT/exports)"
    add("--exports", type=Path, metavar="DIR", help=text)


def run(arguments: argparse.Namespace) -> int:
    if arguments.rounds < 1 or arguments.cold < 0:
        raise InputError("--rounds, --cold", f"{arguments.rounds}, {arguments.cold}", "1 or more, 0 or more")
    arguments.out.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys([BASE, *arguments.rows]))
    setting = Setting(arguments.weights, arguments.exports or arguments.out / "exports", arguments.threads[-1])
    with tempfile.TemporaryDirectory() as folder:
        held = resolve(arguments.weights).precisions
        own = [CONTENDERS[name].precision for name in names if CONTENDERS[name].precision in set(held) - {"fp16"}]
        image = arguments.image or phantom_with_one_object(Path(folder), arguments.weights, own)
        results = measure(names, setting, image, arguments.threads, arguments.rounds, arguments.cold)
    write_measured(arguments.out, "latency", results, make_tables(results))
    return 0
