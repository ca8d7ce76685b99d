"""What a training was, as JSON and a plot: enough to run it again, and for a release to tell of it."""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
from pathlib import Path

import matplotlib
import torch

from hub.files import replace_file, replace_path
from hub.revision import git_revision, machine_name

matplotlib.use("Agg")
#: Val figures worth a curve, and how they are called; a training has one of them.
_CURVES = {"ap50": "AP50 on val", "val_dice": "Dice on val", "dice_true": "Dice on val, true boxes"}


class Record:
    """`<name>.json` beside the weights of a training: its runs in order, each with what it was asked to do, and before
    them those of the weights that it started from.

    A run is `{"command", "seed", "revision", "data", "init", "machine", "minutes", "samples"}`: `data` and `init` are
    the first 16 hex digits of a sha256, of the prepared labels and of the weights that it started from; minutes and
    samples count from the start of the training.
    """

    def __init__(self, path: Path, arguments: argparse.Namespace):
        self.path = path
        before = path if arguments.resume else arguments.init and arguments.init.with_suffix(".json")
        self.runs = read_record(before) if before else []
        self.runs.append(
            {
                "command": own_command(),
                "seed": arguments.seed,
                "revision": git_revision(),
                "data": _digest(*sorted(arguments.data.glob("*.json"))),
                "init": _digest(arguments.init) if arguments.init else None,
                "machine": _machine(),
            }
        )

    def write(self, minutes: float, samples: int) -> None:
        self.runs[-1] |= {"minutes": round(minutes, 1), "samples": samples}
        with replace_file(self.path) as file:
            file.write(json.dumps(self.runs, indent=2) + "\n")


def own_command() -> str:
    """This run's command line, as one would type it."""
    return shlex.join(["python", "-m", "pipeline", *sys.argv[1:]])


def read_record(path: Path) -> list[dict]:
    """The runs of a training; none where it left no record, as trainings of others do not."""
    try:
        runs = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [run for run in runs if isinstance(run, dict)] if isinstance(runs, list) else []


def plot_log(log: Path, title: str, out: Path) -> bool:
    """Draw a training's log.jsonl, loss and val figure over minutes, as PNG; False where there is nothing to draw."""
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.is_file() else []
    losses = [(row["minutes"], row["loss"]) for row in rows if "loss" in row]
    if not losses:
        return False
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*losses, strict=True), color="#0072b2", label="loss")
    axes.set(title=title, xlabel="minutes of training", ylabel="loss")
    for name, label in _CURVES.items():
        points = [(row["minutes"], row[name]) for row in rows if name in row]
        if points:
            right = axes.twinx()
            right.plot(*zip(*points, strict=True), "o-", color="#d55e00")
            right.set_ylabel(label, color="#d55e00")
    out.parent.mkdir(parents=True, exist_ok=True)
    with replace_path(out) as temporary:
        figure.savefig(temporary, format="png", dpi=80)
    return True


def _digest(*files: Path) -> str:
    together = hashlib.sha256()
    for file in files:
        if file.is_file():
            with file.open("rb") as stream:
                together.update(hashlib.file_digest(stream, "sha256").digest())
    return together.hexdigest()[:16]


def _machine() -> str:
    threads = torch.get_num_threads()
    processor = f"{threads} thread{'s' if threads > 1 else ''} on {machine_name()}"
    return torch.cuda.get_device_name() if torch.cuda.is_available() else processor
