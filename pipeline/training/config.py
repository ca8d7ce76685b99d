"""The config.json of a release trained with this repository's own classes."""

from __future__ import annotations

import json
from pathlib import Path

from hub import WeightsError
from hub.checks import check_config
from pipeline.errors import InputError

RELEASE_CONFIG = {
    "schema": 1,
    "classes": [
        {"id": 1, "name": "brain_tumor"},
        {"id": 2, "name": "hippocampus"},
        {"id": 3, "name": "lung"},
        {"id": 4, "name": "left_ventricle"},
        {"id": 5, "name": "polyp"},
        {"id": 6, "name": "fetal_head"},
        {"id": 7, "name": "breast_lesion"},
    ],
    "detector": {
        "family": "yolo_nas_s",
        "input_size": 640,
        "resize": "letterbox",
        "score_threshold": 0.3,
        "class_thresholds": {"lung": 0.4},
        "max_detections": 20,
    },
    "segmenter": {"family": "medsam2", "input_size": 512, "resize": "squash", "mask_size": 128},
    "slicing": {"hippocampus": {"axis": 2}},
}


def read_config(path: Path | None) -> dict:
    """A config.json for other classes or thresholds, checked; the repository's own where `path` is None."""
    if path is None:
        return RELEASE_CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        check_config(path, config)
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(path, f"unreadable ({error})", "a config.json as in a release") from None
    except WeightsError as error:
        raise InputError(path, str(error).removeprefix(f"{path}: "), "a config.json as in a release") from None
    return config
