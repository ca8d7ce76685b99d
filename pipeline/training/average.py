"""`python -m pipeline average FILE FILE... --out FILE`: the mean of several trainings' weights of one network.

Of weights that were trained on from one another the mean often is better than each (model soups, Wortsman et al. 2022).
A detector that was trained from a released graph has no normalisation while it trains; it gets one when its weights are
written, with statistics of their own. So it is the graphs of such detectors whose mean is taken.
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
from pipeline.training.fused_detector import load_fused, ordinary_weights
from pipeline.training.progress import read_weights, save_weights
from pipeline.training.record import own_command, read_record


def mean_of(files: list[Path]) -> dict[str, torch.Tensor]:
    """The mean of trained weights, or of released detectors' graphs.

    Raises InputError where they are not of the same network.
    """
    graphs = [file.suffix == ".onnx" for file in files]
    if not any(graphs):
        return _mean(files, [read_weights(file) for file in files])
    if not all(graphs):
        raise InputError(files[graphs.index(False)], "trained weights beside a graph", "graphs alone, or weights alone")
    detectors = [load_fused(file) for file in files]
    first = detectors[0]
    first.load_state_dict(_mean(files, [detector.state_dict() for detector in detectors]))
    return ordinary_weights(first.eval(), first.num_classes, [])


def _mean(files: list[Path], states: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The mean of each float tensor; of whole numbers, such as counters, the first file's."""
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
    text = "what trainings of one network wrote, or released graphs of the detector, .onnx; the last one last"
    add("weights", type=Path, nargs="+", metavar="FILE", help=text)
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
