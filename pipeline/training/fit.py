"""The loop of both trainings: budget, averaged weights, checkpoints that a stopped run goes on from, log, val."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from pipeline.errors import InputError
from pipeline.training.prepared import PreparedSplit, parse_by_source
from pipeline.training.progress import (
    Budget,
    MovingAverage,
    learning_rate,
    log_row,
    parameter_groups,
    read_checkpoint,
    save_checkpoint,
    save_weights,
)
from pipeline.training.record import Record


@dataclass(frozen=True)
class Objective:
    """What makes one training different from another.

    Attributes
    ----------
    name : the weights are written to `<name>.safetensors`
    samples : seed -> endless samples
    collate : samples -> a batch of tensors; None for torch's own
    losses_of : a batch on the device -> {"loss": what is minimised, ...: what else goes into the log}
    look_at_val : averaged weights -> figures for the log
    clip : largest norm of the gradient
    betas : of AdamW
    weights_of : averaged weights -> those that are written
    """

    name: str
    samples: Callable[[int], IterableDataset]
    collate: Callable | None
    losses_of: Callable[[tuple[Tensor, ...]], dict[str, Tensor]]
    look_at_val: Callable[[dict[str, Tensor]], dict[str, float]]
    clip: float
    betas: tuple[float, float] = (0.9, 0.999)
    weights_of: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict


def read_splits(arguments: argparse.Namespace) -> tuple[PreparedSplit, PreparedSplit]:
    """(train, val) of the prepared folder."""
    train = PreparedSplit.read(arguments.data, "train", arguments.emphasis)
    if not train.images:
        raise InputError(arguments.data / "train.json", "no images", "at least one train image")
    return train, PreparedSplit.read(arguments.data, "val")


def fit(module: nn.Module, objective: Objective, arguments: argparse.Namespace, train_images: int) -> None:
    """Train `module`, which is on its device already, until the budget of `arguments` is used up."""
    device = next(module.parameters()).device
    average = MovingAverage(module, arguments.ema)
    groups = parameter_groups(module, arguments.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=arguments.lr, betas=objective.betas)
    steps = arguments.epochs * math.ceil((arguments.samples or train_images) / arguments.batch)
    budget = Budget(steps, arguments.minutes or math.inf, arguments.run_minutes or math.inf)
    checkpoint = arguments.out / "checkpoint.pt"
    if arguments.resume:
        state = read_checkpoint(checkpoint)
        module.load_state_dict(state["model"])
        average.state, average.updates = state["average"], state["updates"]
        optimizer.load_state_dict(state["optimizer"])
        budget.step, budget.seconds = state["step"], state["seconds"]
    record = Record(arguments.out / f"{objective.name}.json", arguments)
    recent: list[dict[str, float]] = []

    def keep(with_val: bool) -> None:
        parts = {"model": module.state_dict(), "average": average.state, "optimizer": optimizer.state_dict()}
        numbers = {"updates": average.updates, "step": budget.step, "seconds": budget.seconds}
        save_checkpoint(checkpoint, parts | numbers)
        save_weights(objective.weights_of(average.state), arguments.out / f"{objective.name}.safetensors")
        record.write(budget.seconds / 60, budget.step * arguments.batch)
        row = {"step": budget.step, "minutes": budget.seconds / 60, "lr": optimizer.param_groups[0]["lr"]}
        row |= {name: float(np.mean([losses[name] for losses in recent])) for name in (recent[0] if recent else ())}
        row |= objective.look_at_val(average.state) if with_val else {}
        log_row(arguments.out / "log.jsonl", **row)
        recent.clear()

    samples = objective.samples(arguments.seed + 1000 * budget.step)
    loader = DataLoader(samples, arguments.batch, collate_fn=objective.collate, num_workers=arguments.workers)
    module.train()
    saved = evaluated = time.monotonic()
    for batch in loader:
        if budget.run_over:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(budget, arguments.lr, arguments.warmup)
        losses = objective.losses_of(tuple(part.to(device) for part in batch))
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(module.parameters(), objective.clip)
        optimizer.step()
        average.update(module)
        budget.tick()
        recent.append({name: value.item() for name, value in losses.items()})
        if time.monotonic() - saved > 60 * arguments.save_minutes:
            with_val = time.monotonic() - evaluated > 60 * arguments.val_minutes
            keep(with_val)
            saved = time.monotonic()
            evaluated = saved if with_val else evaluated
    keep(with_val=True)


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a training on prepared images."""
    add = parser.add_argument
    add("--size", type=int, help="side of the input in pixels (default %(default)s)")
    text = "share of images without any region, where a source has them (default %(default)s)"
    add("--empty-share", type=float, help=text)
    text = "draw these sources so much oftener than the others, such as first=2,second=0.5"
    add("--emphasis", type=parse_by_source, metavar="NAME=N,...", help=text)
    text = "share of images that look as if from another hospital's device (default %(default)s)"
    add("--other-devices", type=float, default=0.0, metavar="SHARE", help=text)
    add("--val-images", type=int, help="val images a source (default %(default)s)")


def add_fit_arguments(parser: argparse.ArgumentParser, data: str = "what `prepare` wrote", **defaults: object) -> None:
    """The options of every training; `defaults` are the training's own values."""
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help=data)
    add("--out", type=Path, required=True, metavar="DIR", help="checkpoint, weights and log go here")
    add(
        "--init",
        type=Path,
        metavar="FILE",
        help="start from these weights: .safetensors, an official .pt, or a released graph",
    )
    add("--resume", action="store_true", help="go on from --out's checkpoint")
    add("--epochs", type=int, help="(default %(default)s)")
    add("--samples", type=int, help="samples an epoch (default: as many as train images)")
    add("--minutes", type=float, help="end the schedule after this much training time, if sooner")
    add("--run-minutes", type=float, help="stop this run then; --resume goes on with the same schedule")
    add("--batch", type=int, default=4, help="(default %(default)s)")
    add("--lr", type=float, help="peak learning rate (default %(default)s)")
    add("--warmup", type=int, default=200, help="steps until the full learning rate (default %(default)s)")
    add("--weight-decay", type=float, help="(default %(default)s)")
    add("--ema", type=float, default=0.998, help="decay of the averaged weights (default %(default)s)")
    add("--val-minutes", type=float, default=10, help="minutes between two looks at val (default %(default)s)")
    add("--save-minutes", type=float, default=3, help="minutes between two checkpoints (default %(default)s)")
    add("--workers", type=int, default=0, help="processes that load images beside the training (default %(default)s)")
    add("--threads", type=int, help="torch's threads (default: all cores)")
    add("--seed", type=int, default=0, help="(default %(default)s)")
    parser.set_defaults(**defaults)


def start(arguments: argparse.Namespace) -> None:
    """Seed and threads, before anything is built."""
    torch.manual_seed(arguments.seed)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
