"""`python -m eval nnunet train`: nnU-Net's own network, loss, augmentation and optimizer, for a number of minutes.

nnU-Net's recipe counts epochs, 1,000 of 250 iterations; here the clock decides, and its learning rate falls with the
share of the minutes that are spent instead of the share of the epochs. A checkpoint a minute; a stopped run goes on.
"""

from __future__ import annotations

import json
import os
import time

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from tqdm import tqdm

from eval.nnunet.prepare import PLANS
from eval.nnunet.workspace import Workspace
from hub.revision import git_revision, machine_name
from pipeline.training.progress import save_checkpoint

#: Iterations of an nnU-Net epoch, in which its trainings are usually given.
EPOCH = 250
_CHECKPOINT_S = 60
#: The exponent of nnU-Net's learning rate, (1 - share)^0.9.
_POLY = 0.9


def build_trainer(workspace: Workspace) -> nnUNetTrainer:
    """nnU-Net's trainer on fold 0 of a prepared workspace, on the processor, with its network built."""
    workspace.enter()
    os.environ |= {"nnUNet_n_proc_DA": "0"}  # augment in this process, so that a seed gives the same patches
    plans = json.loads((workspace.preprocessed / f"{PLANS}.json").read_text("utf-8")) | {"continue_training": False}
    description = json.loads((workspace.raw / "dataset.json").read_text("utf-8"))
    configuration = workspace.read("prepare")["configuration"]
    trainer = nnUNetTrainer(plans, configuration, 0, description, torch.device("cpu"))
    trainer.initialize()
    return trainer


def train(workspace: Workspace, minutes: float, seed: int = 0) -> dict:
    """Train until `minutes` in all are spent, those of earlier runs counted; returns what train.json holds."""
    prepared = workspace.read("prepare")
    torch.manual_seed(seed)
    np.random.seed(seed)  # nnU-Net draws its patches from numpy's global state
    trainer = build_trainer(workspace)
    spent, iterations, losses = _resume(trainer, workspace)
    if iterations == 0 or spent < 60 * minutes:
        trainer.on_train_start()
        spent, iterations = _spend(trainer, workspace, 60 * minutes, spent, iterations, losses)
    facts = {
        "configuration": prepared["configuration"],
        "cases": prepared["cases"],
        "batch_size": prepared["batch_size"],
        "minutes": round(spent / 60, 1),
        "iterations": iterations,
        "epochs": round(iterations / EPOCH, 2),
        "last_loss": round(float(np.mean(losses[-20:])), 4) if losses else None,
        "seed": seed,
        "threads": torch.get_num_threads(),
        "bytes": sum(value.numel() * value.element_size() for value in trainer.network.state_dict().values()),
        "machine": machine_name(),
        "revision": git_revision(),
    }
    workspace.note("train", facts)
    return facts


def _resume(trainer: nnUNetTrainer, workspace: Workspace) -> tuple[float, int, list[float]]:
    if not workspace.checkpoint.is_file():
        return 0.0, 0, []
    state = torch.load(workspace.checkpoint, map_location="cpu", weights_only=True)
    trainer.network.load_state_dict(state["network"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    return state["spent"], state["iterations"], state["losses"]


def _spend(
    trainer: nnUNetTrainer, workspace: Workspace, budget: float, spent: float, iterations: int, losses: list[float]
) -> tuple[float, int]:
    """Iterate until `budget` seconds are spent, at least once; saves every minute and at the end."""
    start, saved = time.monotonic() - spent, spent
    with tqdm(total=round(budget), initial=round(spent), desc=workspace.source, unit="s", disable=None) as bar:
        trainer.network.train()
        while True:
            share = min(1.0, spent / budget) if budget else 0.0
            for group in trainer.optimizer.param_groups:
                group["lr"] = trainer.initial_lr * max(1 - share, 1e-3) ** _POLY
            losses.append(float(trainer.train_step(next(trainer.dataloader_train))["loss"]))
            iterations += 1
            spent = time.monotonic() - start
            bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
            bar.update(round(spent) - bar.n)
            over = spent >= budget
            if over or spent - saved >= _CHECKPOINT_S:
                _save(trainer, workspace, spent, iterations, losses)
                saved = spent
            if over:
                return spent, iterations


def _save(trainer: nnUNetTrainer, workspace: Workspace, spent: float, iterations: int, losses: list[float]) -> None:
    mirrored = trainer.inference_allowed_mirroring_axes
    save_checkpoint(
        workspace.checkpoint,
        {
            "network": trainer.network.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
            "mirroring_axes": None if mirrored is None else [int(axis) for axis in mirrored],
            "spent": spent,
            "iterations": iterations,
            "losses": losses,
        },
    )
