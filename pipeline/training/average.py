"""`python -m pipeline average FILE FILE... --out FILE`: the mean of several trainings' weights of one network.

Of weights that were trained on from one another the mean often is better than each (model soups, Wortsman et al. 2022).
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch

from hub.files import replace_file
from hub.revision import git_revision, machine_name
from pipeline.errors import InputError
from pipeline.training.progress import read_weights, save_weights
from pipeline.training.record import own_command, read_record


def mean_of(files: list[Path]) -> dict[str, torch.Tensor]:
    """The mean of each float tensor; of whole numbers, such as counters, the first file's."""
    states = [read_weights(file) for file in files]
    first = states[0]
    for file, state in zip(files[1:], states[1:], strict=True):
        if {name: value.shape for name, value in state.items()} != {name: value.shape for name, value in first.items()}:
            raise InputError(file, f"not the tensors of {files[0].name}", "weights of the same network")
    return {
        name: torch.stack([state[name] for state in states]).mean(0) if value.is_floating_point() else value
        for name, value in first.items()
    }


def _record(files: list[Path]) -> list[dict]:
    """The runs of all, each once, and this one."""
    runs = []
    for run in (run for file in files for run in read_record(file.with_suffix(".json"))):
        if run not in runs:
            runs.append(run)
    own = {"command": own_command(), "seed": None, "revision": git_revision(), "data": None, "init": None}
    return [*runs, own | {"machine": machine_name(), "minutes": 0.0, "samples": 0}]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("weights", type=Path, nargs="+", metavar="FILE", help="what trainings of one network wrote, the last one last")
    add("--out", type=Path, required=True, metavar="FILE", help="the mean, .safetensors; its record goes beside it")


def run(arguments: argparse.Namespace) -> int:
    files, out = arguments.weights, arguments.out
    if out.suffix != ".safetensors":
        raise InputError(out, "no .safetensors file", "a name that ends in .safetensors")
    save_weights(mean_of(files), out)
    with replace_file(out.with_suffix(".json")) as file:
        file.write(json.dumps(_record(files), indent=2) + "\n")
    log = files[-1].with_name("log.jsonl")
    if log.is_file() and log.parent.resolve() != out.parent.resolve():
        shutil.copyfile(log, out.with_name("log.jsonl"))
    print(f"{out}: the mean of {len(files)}")
    return 0
