"""`python -m eval nnunet prepare | train | predict`: the three steps to the table's nnU-Net rows."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
from pathlib import Path

from eval.nnunet.workspace import Workspace
from pipeline.datasets import Source, read_source
from pipeline.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    steps = parser.add_subparsers(required=True, metavar="STEP", dest="step")
    for name, summary in (
        ("prepare", "convert a source, let nnU-Net plan and preprocess it"),
        ("train", "train until the minutes are spent; goes on where it was stopped"),
        ("predict", "write the masks of a split; goes on where it was stopped"),
    ):
        step = steps.add_parser(name, help=summary)
        text = "folder of one data set, in its official layout"
        step.add_argument("--source", type=Path, required=True, metavar="DIR", help=text)
        text = "folder of all nnU-Net work (default %(default)s); every source gets one in it"
        step.add_argument("--out", type=Path, default=Path("runs/nnunet"), metavar="DIR", help=text)
        _OPTIONS[name](step)


def _prepare_options(step: argparse.ArgumentParser) -> None:
    text = "of nnU-Net: 2d, or 3d_fullres for volumes (default: 3d_fullres where there are volumes)"
    step.add_argument("--configuration", choices=("2d", "3d_fullres"), help=text)
    text = "what its plan may fill, which sets the batch (nnU-Net's default: 8); less gives more steps a minute"
    step.add_argument("--memory-gb", type=float, default=8.0, metavar="GB", help=text)
    step.add_argument("--limit", type=int, metavar="N", help="at most N cases of train and of val, for a quick look")


def _train_options(step: argparse.ArgumentParser) -> None:
    step.add_argument("--minutes", type=float, default=30.0, help="in all, those of earlier runs counted (default 30)")
    step.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    step.add_argument("--seed", type=int, default=0)


def _predict_options(step: argparse.ArgumentParser) -> None:
    step.add_argument("--split", choices=("train", "val", "test"), default="test")
    step.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    step.add_argument("--limit", type=int, metavar="N", help="at most N cases, for a quick look")


_OPTIONS = {"prepare": _prepare_options, "train": _train_options, "predict": _predict_options}


def run(arguments: argparse.Namespace) -> int:
    if importlib.util.find_spec("nnunetv2") is None:
        expected = "the environment of requirements-eval.txt, see eval/README.md"
        raise InputError("python -m eval nnunet", "the package 'nnunetv2' is not installed", expected)
    source = read_source(arguments.source)
    workspace = Workspace(arguments.out, source.name)
    if arguments.step in _AFTER:
        workspace.read(_AFTER[arguments.step])
    workspace.enter()
    if getattr(arguments, "threads", None):
        import torch

        torch.set_num_threads(arguments.threads)
    # nnU-Net reports at length on standard output; that goes into a file, progress and errors stay on the screen
    log = workspace.folder / f"{arguments.step}.log"
    with log.open("a", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        said = _STEPS[arguments.step](arguments, source, workspace)
    print(f"{workspace.folder}: {said}; nnU-Net's own words are in {log.name}.")
    return 0


def _prepare(arguments: argparse.Namespace, source: Source, workspace: Workspace) -> str:
    from eval.nnunet.prepare import prepare

    configuration = arguments.configuration or ("2d" if source.slice_axis is None else "3d_fullres")
    facts = prepare(source, workspace, configuration, memory_gb=arguments.memory_gb, limit=arguments.limit)
    return f"prepared {json.dumps(facts)}"


def _train(arguments: argparse.Namespace, source: Source, workspace: Workspace) -> str:
    from eval.nnunet.train import train

    return f"trained {json.dumps(train(workspace, arguments.minutes, arguments.seed))}"


def _predict(arguments: argparse.Namespace, source: Source, workspace: Workspace) -> str:
    from eval.nnunet.predict import predict

    return f"{predict(source, workspace, arguments.split, arguments.limit)} cases predicted"


#: What has to be done before a step.
_AFTER = {"train": "prepare", "predict": "train"}
_STEPS = {"prepare": _prepare, "train": _train, "predict": _predict}
