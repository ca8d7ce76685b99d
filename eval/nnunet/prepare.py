"""`python -m eval nnunet prepare`: a source -> nnU-Net's raw data set, its plan, and its preprocessed cases.

Train is what nnU-Net trains on and val its validation set, fold 0. A volume becomes a stack of the slices that our own
networks see (8 bits, voxels counted as cubes), so that a predicted slice has the same pixels as ours.
"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image
from tqdm import tqdm

from eval.nnunet.cases import Case, channels_of, split_cases
from eval.nnunet.workspace import Workspace
from hub.files import replace_file, replace_path
from pipeline.datasets import Source
from pipeline.errors import InputError

PLANS = "nnUNetPlans"


def prepare(
    source: Source, workspace: Workspace, configuration: str, *, memory_gb: float = 8.0, limit: int | None = None
) -> dict:
    """Convert, plan and preprocess; what lies there already is kept. Returns what prepare.json holds."""
    workspace.enter()
    train, val = split_cases(source)
    train, val = train[:limit], val[:limit]
    ending = ".nii.gz" if train[0].volume else ".png"
    if configuration.startswith("3d") and not train[0].volume:
        raise InputError("--configuration", f"{configuration}, and {source.name} holds images", "2d")
    channels = channels_of(train)
    for folder in ("imagesTr", "labelsTr"):
        (workspace.raw / folder).mkdir(parents=True, exist_ok=True)
    for case in tqdm([*train, *val], desc=f"converting {source.name}", unit="case", disable=None):
        _write_case(case, channels, workspace.raw, ending)
    _write_json(workspace.raw / "dataset.json", _description(source, channels, len(train) + len(val), ending))
    plan = _plan(workspace, configuration, memory_gb)
    fold = {"train": [case.name for case in train], "val": [case.name for case in val]}
    _write_json(workspace.preprocessed / "splits_final.json", [fold])
    facts = {
        "configuration": configuration,
        "channels": channels,
        "memory_gb": memory_gb,
        "cases": {"train": len(train), "val": len(val)},
        "patch_size": list(map(int, plan["patch_size"])),
        "batch_size": int(plan["batch_size"]),
    }
    workspace.note("prepare", facts)
    return facts


def _write_case(case: Case, channels: int, raw: Path, ending: str) -> None:
    image, label = raw / "imagesTr" / f"{case.name}_0000{ending}", raw / "labelsTr" / f"{case.name}{ending}"
    if image.is_file() and label.is_file():
        return
    pixels, truth = case.load(channels)
    with replace_path(image) as temporary:
        _write(temporary, pixels)
    with replace_path(label) as temporary:
        _write(temporary, truth[None])


def _write(path: Path, stack: np.ndarray) -> None:
    """uint8 (C, D, H, W): a volume of one channel as NIfTI, which nnU-Net reads last axis first; an image as PNG."""
    if path.name.endswith(".nii.gz"):
        nibabel.save(nibabel.Nifti1Image(stack[0].transpose(2, 1, 0), np.eye(4)), path)
    else:
        Image.fromarray(np.ascontiguousarray(stack[:, 0].transpose(1, 2, 0).squeeze())).save(path)


def _description(source: Source, channels: int, count: int, ending: str) -> dict:
    return {
        "channel_names": {str(number): name for number, name in enumerate(("R", "G", "B")[:channels])},
        "labels": {"background": 0, source.classes[0]: 1},
        "numTraining": count,
        "file_ending": ending,
    }


def _plan(workspace: Workspace, configuration: str, memory_gb: float) -> dict:
    """Fingerprint, plan and preprocess, unless that was done; returns the plan of the configuration."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as nnunet

    path = workspace.preprocessed / f"{PLANS}.json"
    if not path.is_file():
        nnunet.extract_fingerprints([1], num_processes=2, check_dataset_integrity=True)
        nnunet.plan_experiments([1], gpu_memory_target_in_gb=memory_gb)
    plans = json.loads(path.read_text("utf-8"))["configurations"]
    if configuration not in plans:
        names = ", ".join(name for name, plan in plans.items() if "patch_size" in plan)
        raise InputError("--configuration", f"nnU-Net planned no {configuration} for {workspace.source}", names)
    done = workspace.preprocessed / f"{configuration}.done"
    if not done.is_file():
        nnunet.preprocess([1], configurations=(configuration,), num_processes=(2,))
        done.touch()
    return plans[configuration]


def _write_json(path: Path, content: object) -> None:
    with replace_file(path) as file:
        json.dump(content, file, indent=1)
