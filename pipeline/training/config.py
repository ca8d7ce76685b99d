"""The config.json of a release trained with this repository's own classes."""

from __future__ import annotations

import copy
import json
from pathlib import Path

from hub import Release, WeightsError
from hub.checks import check_config
from pipeline.datasets import CLASSES
from pipeline.errors import InputError

RELEASE_CONFIG = {
    "schema": 1,
    "classes": [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)],
    "detector": {
        "family": "yolo_nas_s",
        "input_size": 640,
        "resize": "letterbox",
        "score_threshold": 0.3,
        "class_thresholds": {},
        "max_detections": 20,
    },
    "segmenter": {"family": "medsam2", "input_size": 512, "resize": "squash", "mask_size": 128},
    "slicing": {"hippocampus": {"axis": 1}},
}


def read_config(path: Path | None, base: Release | None = None, classes_of: Path | None = None) -> dict:
    """The config.json of a new release.

    Parameters
    ----------
    path
        A config.json to take as it is; None for the base's, or else the repository's own.
    base
        Release whose networks the new one takes over.
    classes_of
        Prepared folder; its classes replace the config's, and the rules of the old classes go.
    """
    if path is not None:
        config = _checked(path, read_object(path, "a config.json as in a release"))
    else:
        config = copy.deepcopy(base.config if base else RELEASE_CONFIG)
    if classes_of is not None:
        config["classes"] = _classes_in(classes_of)
        config["detector"] |= {"class_thresholds": {}, "class_best_shares": {}}
        config["slicing"], config["shapes"] = {}, {}
    return config


def _checked(path: Path, config: dict) -> dict:
    try:
        check_config(path, config)
    except WeightsError as error:
        said = str(error).removeprefix(f"{path}: ")
        raise InputError(path, said, "a config.json as in a release") from None
    return config


def _classes_in(folder: Path) -> list[dict]:
    """The classes of a prepared folder, as config.json lists them."""
    path = folder / "train.json"
    categories = read_object(path, "a folder that `python -m pipeline prepare` wrote").get("categories")
    if not categories:
        raise InputError(path, "no categories", "a folder that `python -m pipeline prepare` wrote")
    return [{"id": category["id"], "name": category["name"]} for category in categories]


def read_object(path: Path, expected: str) -> dict:
    """A JSON file that has to hold an object; `expected` says what it is for."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, f"unreadable ({error})", expected) from None
    if not isinstance(content, dict):
        raise InputError(path, f"a JSON {type(content).__name__}", expected)
    return content
