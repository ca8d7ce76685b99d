"""The table's nnU-Net rows: one for each source that it was trained on, made from the masks that lie on disk.

No torch is needed to measure them, so the environment of nnU-Net and that of the other rows never have to meet.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from eval.nnunet.workspace import Workspace, read_times
from eval.row import Outcome, Question, Ready, Row, Setting
from pipeline.errors import InputError

_STEPS = "`python -m eval nnunet prepare`, `train` and `predict`, see eval/README.md"


def nnunet_rows(root: Path, split: str) -> list[Row]:
    """A row a source with a trained network below `root`; one that says what to do where there is none."""
    folders = sorted(path.parent for path in root.glob("*/train.json"))
    if not folders:
        return [Row("nnunet", "nnU-Net v2", "none", _not_trained, of_release=False)]
    return [_row(Workspace(root, folder.name), split) for folder in folders]


def _row(workspace: Workspace, split: str) -> Row:
    training = workspace.read("train")
    title = (
        f"nnU-Net v2, {training['configuration']}, {workspace.source} alone: {training['iterations']} iterations "
        f"({training['epochs']} epochs) in {training['minutes'] / 60:.2f} h"
    )

    def open_row(setting: Setting) -> Ready:
        folder = workspace.predictions(split)
        if not (folder / "predictions.jsonl").is_file():
            command = f"python -m eval nnunet predict --source DATA/{workspace.source} --out {workspace.root}"
            raise InputError(folder, "holds no masks yet", f"those that `{command} --split {split}` writes")
        times = read_times(folder, training)

        def answer(question: Question) -> Outcome:
            if question.sample not in times:
                raise InputError(folder, f"lacks the mask of {question.sample}", "all masks: let `predict` finish")
            mask = np.asarray(Image.open(folder / f"{question.sample}.png").convert("L")) > 0
            if mask.shape != question.pixels.shape[:2]:
                raise InputError(folder, f"{question.sample}.png is {mask.shape}", f"{question.pixels.shape[:2]}")
            return Outcome(mask, times[question.sample])

        return Ready(answer, training["bytes"])

    name = f"nnunet-{workspace.source}"
    about = {"iterations": training["iterations"]}
    return Row(name, title, "none", open_row, of_release=False, source=workspace.source, about=about)


def _not_trained(setting: Setting) -> Ready:
    raise InputError(setting.nnunet, "holds no trained nnU-Net", f"what {_STEPS} make")
