"""`python -m eval nnunet predict`: the masks of a split, SAMPLE.png, as nnU-Net predicts: tiled, mirrored, averaged."""

from __future__ import annotations

import contextlib
import io
import json
import time

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from PIL import Image
from tqdm import tqdm

from eval.nnunet.cases import Case, cases_of
from eval.nnunet.train import build_trainer
from eval.nnunet.workspace import Workspace, read_times
from hub.files import replace_path
from pipeline.datasets import Source
from pipeline.errors import InputError

#: What nnU-Net's readers give with an image, in the order of its axes, and what `prepare` says of volumes.
_SPACING = {False: (999.0, 1.0, 1.0), True: (1.0, 1.0, 1.0)}


def predict(source: Source, workspace: Workspace, split: str, limit: int | None = None) -> int:
    """Write the mask of every sample of a split that has none yet, at most of `limit` cases; returns how many
    cases were predicted."""
    training = workspace.read("train")
    folder = workspace.predictions(split)
    cases, log = cases_of(source, split)[:limit], folder / "predictions.jsonl"
    if not cases:
        raise InputError("--split", f"no image of {source.name} is in {split}", "a split with images, see splits.csv")
    folder.mkdir(parents=True, exist_ok=True)
    done = read_times(folder, training) if log.is_file() else {}
    left = [case for case in cases if any(sample.name not in done for sample in case.samples)]
    if not left:
        return 0
    predictor = open_predictor(workspace)
    channels = workspace.read("prepare")["channels"]
    if not log.is_file():
        log.write_text(json.dumps({"iterations": training["iterations"]}) + "\n", encoding="utf-8")
    with log.open("a", encoding="utf-8") as file:
        for case in tqdm(left, desc=f"predicting {source.name}", unit="case", disable=None):
            pixels, _ = case.load(channels)
            start = time.perf_counter()
            masks = predict_case(predictor, pixels, case)
            share = (time.perf_counter() - start) * 1000 / len(case.samples)
            for sample, mask in zip(case.samples, masks, strict=True):
                with replace_path(folder / f"{sample.name}.png") as temporary:
                    Image.fromarray(mask).save(temporary)
            lines = [{"sample": sample.name, "milliseconds": round(share, 2)} for sample in case.samples]
            file.writelines(json.dumps(line) + "\n" for line in lines)
            file.flush()
    return len(left)


def open_predictor(workspace: Workspace) -> nnUNetPredictor:
    """nnU-Net's predictor with the network that was trained so far."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its citation and which of its defaults don't apply
        trainer = build_trainer(workspace)
        trainer.set_deep_supervision_enabled(False)
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    state = torch.load(workspace.checkpoint, map_location="cpu", weights_only=True)
    plans, configuration = trainer.plans_manager, trainer.configuration_manager
    description, axes = trainer.dataset_json, state["mirroring_axes"]
    axes = None if axes is None else tuple(axes)
    predictor.manual_initialization(
        trainer.network, plans, configuration, [state["network"]], description, "nnUNetTrainer", axes
    )
    return predictor


def predict_case(predictor: nnUNetPredictor, pixels: np.ndarray, case: Case) -> np.ndarray:
    """uint8 (C, D, H, W) -> bool (D, H, W)."""
    found = predictor.predict_single_npy_array(pixels.astype(np.float32), {"spacing": _SPACING[case.volume]})
    return np.asarray(found) > 0
