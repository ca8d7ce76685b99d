"""The config.json of a release trained with this repository's own classes."""

from __future__ import annotations

import json
from pathlib import Path

from hub import WeightsError
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


def read_config(path: Path | None) -> dict:
    """A config.json for other classes or thresholds, checked; the repository's own where `path` is None."""
    if path is None:
        return RELEASE_CONFIG
    expected = "a config.json as in a release"
    config = read_object(path, expected)
    try:
        check_config(path, config)
    except WeightsError as error:
        raise InputError(path, str(error).removeprefix(f"{path}: "), expected) from None
    return config


def read_object(path: Path, expected: str) -> dict:
    """A JSON file that has to hold an object; `expected` says what it is for."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, f"unreadable ({error})", expected) from None
    if not isinstance(content, dict):
        raise InputError(path, f"a JSON {type(content).__name__}", expected)
    return content
