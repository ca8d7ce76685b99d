"""How many images a second `python -m pipeline batch` does: one worker, a worker a core, one worker with all cores.

The images are those of a split, in turn and each time with another first pixel, so that none counts as done. A row's
rate is from the moment its first worker was ready; memory is that of all its processes together.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
from itertools import cycle, islice
from pathlib import Path
from time import monotonic

import numpy as np
import psutil
from PIL import Image
from tqdm import tqdm

from eval.measured import write_measured
from hub import resolve
from hub.revision import git_revision, machine_name
from hub.tables import markdown_table
from pipeline.datasets import Sample, read_source
from pipeline.errors import InputError
from pipeline.runtime import available_cores

#: What a worker a core must reach of as many times one worker's rate.
WANTED = 0.9
_EVERY = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="folder that holds the data sets")
    add("--split", choices=("train", "val", "test"), default="test")
    add("--count", type=int, default=2000, metavar="N", help="images (default %(default)s)")
    add("--rounds", type=int, default=1, metavar="N", help="parts of the images, all rows in turn on each")
    add("--weights", default="embedded", help="'embedded', a release folder, or user/repo@revision")
    add("--precision", default="int8")
    add("--out", type=Path, required=True, metavar="DIR", help="batch.json, batch.md; images and results below it")


def run(arguments: argparse.Namespace) -> int:
    if arguments.rounds < 1 or arguments.count < arguments.rounds:
        raise InputError(
            "--count, --rounds", f"{arguments.count}, {arguments.rounds}", "1 round or more, 1 image in each"
        )
    parts = write_images(arguments.data, arguments.split, arguments.out / "images", arguments.count, arguments.rounds)
    cores = available_cores()
    rows = {"one worker": (1, 1), "a worker a core": (cores, 1), "one worker, all cores": (1, cores)}
    options = ["--weights", arguments.weights, "--precision", arguments.precision, "--quiet"]
    measured = {name: [] for name in rows}
    for number, part in enumerate(parts):
        for name, (workers, threads) in rows.items():
            out = arguments.out / "results" / f"{workers}x{threads}" / str(number)
            measured[name].append(measure(part, out, workers, threads, options))
    results = {
        "rows": {name: summarise(runs, *rows[name]) for name, runs in measured.items()},
        "images": arguments.count,
        "split": arguments.split,
        "rounds": arguments.rounds,
        "weights": resolve(arguments.weights).version,
        "precision": arguments.precision,
        "machine": machine_name(),
        "revision": git_revision(),
    }
    one, many = (results["rows"][name]["images_per_second"] for name in ("one worker", "a worker a core"))
    results["scaling"] = round(many / (cores * one), 3)
    write_measured(arguments.out, "batch", results, make_table(results))
    return 0


def write_images(data: Path, split: str, folder: Path, count: int, rounds: int) -> list[Path]:
    """Write the images as PNG into a folder a round."""
    samples = _samples(data, split)
    folders = [folder / str(number) for number in range(rounds)]
    for place in folders:
        place.mkdir(parents=True, exist_ok=True)
    turns = islice(cycle(enumerate(samples)), count)
    for number, (index, sample) in enumerate(tqdm(turns, total=count, desc="writing", unit="image", disable=None)):
        path = folders[number % rounds] / f"{number:05d}.png"
        if path.exists():
            continue
        pixels = sample.load()[0].copy()
        pixels[0, 0] = number % 256, number // 256 % 256, index % 256
        Image.fromarray(pixels).save(path, compress_level=1)
    return folders


def _samples(data: Path, split: str) -> list[Sample]:
    """The samples of a split, from the data sets in turn, so that a few are of all of them."""
    own = []
    for place in sorted(path for path in data.iterdir() if path.is_dir()) if data.is_dir() else []:
        try:
            own.append([sample for sample in read_source(place).samples if sample.split == split])
        except InputError:
            continue
    own = [samples for samples in own if samples]
    longest = max(map(len, own), default=0)
    found = [samples[place % len(samples)] for place in range(longest) for samples in own]
    if not found:
        raise InputError(data, f"no image of {split}", "a folder that holds the data sets")
    return found


def measure(images: Path, out: Path, workers: int, threads: int, options: list[str]) -> dict:
    """One batch: {'images', 'seconds' of answering, 'cpu_seconds' and 'memory_mb' of all of it}."""
    if out.exists():
        raise InputError(out, "holds results of an earlier measurement", "another folder as --out")
    words = [str(images), "--out", str(out), "--workers", str(workers), "--threads", str(threads), *options]
    process = subprocess.Popen([sys.executable, "-m", "pipeline", "batch", *words], cwd=Path(__file__).parents[1])
    memory = _Memory(process.pid)
    memory.start()
    _, status, usage = os.wait4(process.pid, 0)  # which also says the time of the workers that it waited for
    code = process.returncode = os.waitstatus_to_exitcode(status)
    memory.join()
    record = json.loads((out / "run.json").read_text("utf-8"))["runs"][-1]
    if code not in (0, 2) or not record["finished"]:
        raise InputError(images, f"the batch ended with {code}", "a batch that runs to its end")
    return {
        "images": record["answered"],
        "seconds": record["seconds"]["answering"],
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "memory_mb": memory.samples,
    }


class _Memory(threading.Thread):
    """Adds up what a process and its children hold, MB, until it ends."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.pid, self.samples = pid, []

    def run(self) -> None:
        start = monotonic()
        while held := held_mb(self.pid):
            self.samples.append([round(monotonic() - start, 1), round(held, 1)])
            threading.Event().wait(_EVERY)


def held_mb(pid: int) -> float:
    """Memory that a process and its children hold, MB (10^6 bytes); pages that they share count once a process."""
    held = 0.0
    with contextlib.suppress(psutil.Error):  # it has ended
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                held += each.memory_info().rss / 1e6
    return held


def summarise(runs: list[dict], workers: int, threads: int) -> dict:
    """Of a row's rounds: the rate, the largest memory, and what it grew by from the second to the last quarter."""
    images, seconds, cpu = (sum(run[name] for run in runs) for name in ("images", "seconds", "cpu_seconds"))
    held = [np.array([value for _, value in run["memory_mb"]]) for run in runs]
    quarters = [np.array_split(values, 4) for values in held if len(values) >= 4]
    grown = [float(np.median(last) - np.median(second)) for _, second, _, last in quarters]
    return {
        "workers": workers,
        "threads": threads,
        "images": images,
        "seconds": round(seconds, 2),
        "images_per_second": round(images / seconds, 3),
        "cpu_ms_an_image": round(1000 * cpu / images, 1),
        "peak_mb": max(float(values.max(initial=0)) for values in held),
        "growth_mb": round(max(grown, default=0.0), 1),
        "memory_mb": [run["memory_mb"] for run in runs],
    }


def make_table(results: dict) -> str:
    head = ("row", "workers", "threads each", "images a second", "CPU ms an image", "peak MB", "growth MB")
    keys = ("workers", "threads", "images_per_second", "cpu_ms_an_image", "peak_mb", "growth_mb")
    table = markdown_table(head, [(name, *(row[key] for key in keys)) for name, row in results["rows"].items()])
    return (
        f"{table}\n\n"
        f"A worker a core reaches {results['scaling']:.3f} of as many times one worker (wanted: {WANTED}).\n\n"
        f"{results['images']} images of {results['split']}, {results['rounds']} rounds, release {results['weights']}, "
        f"{results['precision']}, {results['machine']}, revision {results['revision'][:12]}. Growth is from the second "
        "quarter of a run to the last.\n"
    )
