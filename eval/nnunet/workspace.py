"""Where everything of one source lies: what nnU-Net asks for, the network, and its masks."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from hub.files import replace_file
from pipeline.errors import InputError

#: The nnU-Net folders, by the environment variable that it reads.
_FOLDERS = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "preprocessed", "nnUNet_results": "results"}


@dataclass(frozen=True)
class Workspace:
    """The folder of one source, `root/source`.

    Attributes
    ----------
    source : the name of the data set's folder
    """

    root: Path
    source: str

    @property
    def folder(self) -> Path:
        return self.root / self.source

    @property
    def dataset(self) -> str:
        """nnU-Net's name of it; every source has folders of its own, so they all have the number 1."""
        return f"Dataset001_{self.source}"

    @property
    def raw(self) -> Path:
        return self.folder / "raw" / self.dataset

    @property
    def preprocessed(self) -> Path:
        return self.folder / "preprocessed" / self.dataset

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def predictions(self, split: str) -> Path:
        """The folder of masks, SAMPLE.png, of a split; `predictions.jsonl` beside them says what each took."""
        return self.folder / "predictions" / split

    def enter(self) -> None:
        """Tell nnU-Net its folders and to stay small; call it before nnU-Net is imported."""
        for variable, name in _FOLDERS.items():
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            os.environ[variable] = str((self.folder / name).absolute())
        os.environ |= {"nnUNet_n_proc_DA": "1", "nnUNet_compile": "false", "nnUNet_def_n_proc": "2"}

    def read(self, step: str) -> dict:
        """What `prepare` or `train` noted, from STEP.json; raises InputError where it has not been run."""
        path = self.folder / f"{step}.json"
        if not path.is_file():
            command = f"python -m eval nnunet {step} --source DATA/{self.source} --out {self.root}"
            raise InputError(self.folder, f"holds no {path.name}", f"what `{command}` makes; run it first")
        return json.loads(path.read_text("utf-8"))

    def note(self, step: str, facts: dict) -> None:
        with replace_file(self.folder / f"{step}.json") as file:
            json.dump(facts, file, indent=1)


def read_times(folder: Path, training: dict) -> dict[str, float]:
    """Milliseconds of every sample whose mask lies in `folder`; raises InputError where another training made them."""
    lines = (folder / "predictions.jsonl").read_text("utf-8").splitlines()
    made = json.loads(lines[0])["iterations"]
    if made != training["iterations"]:
        found = f"masks of the network after {made} iterations, and it has {training['iterations']} by now"
        raise InputError(folder, found, "masks of the trained network: delete this folder and predict again")
    times = {}
    for line in lines[1:]:
        try:
            entry = json.loads(line)
        except ValueError:
            break  # a stopped run's half line
        times[entry["sample"]] = entry["milliseconds"]
    return times
