"""A tiny release of a few bytes, complete and valid, that tests may damage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hub.release import write_manifest

CONFIG = {
    "schema": 1,
    "classes": [{"id": 1, "name": "hippocampus"}, {"id": 2, "name": "polyp"}],
    "detector": {
        "family": "yolo_nas_s",
        "input_size": 640,
        "resize": "letterbox",
        "score_threshold": 0.3,
        "class_thresholds": {"polyp": 0.4},
        "max_detections": 20,
    },
    "segmenter": {"family": "medsam2", "input_size": 512, "resize": "squash", "mask_size": 128},
    "slicing": {"hippocampus": {"axis": 2}},
}

FILES = {
    "onnx/int8/detector.onnx": b"int8 detector",
    "onnx/int8/mask_decoder.onnx": b"int8 decoder",
    "onnx/fp32/detector.onnx": b"fp32 detector, longer",
    "training/detector.safetensors": b"weights",
}

FIGURES = {
    "split": "test",
    "command": "python -m eval figures --data PREPARED --split test",
    "revision": "abc1234",
    "machine": "2 cores",
    "int8": {
        "macro": {"dice": 0.8, "iou": 0.7, "box_recall_50": 0.9},
        "sources": {
            "kvasir_seg_polyp": {"class": "polyp", "images": 90, "dice": 0.75, "iou": 0.6, "box_recall_50": 0.85},
            "msd_task04_hippocampus": {"class": "hippocampus", "images": 300, "dice": 0.85, "iou": 0.8},
        },
        "total_ms_median": 150.4,
    },
    "fp32": {
        "macro": {"dice": 0.81, "iou": 0.71, "box_recall_50": 0.91},
        "sources": {
            "kvasir_seg_polyp": {"class": "polyp", "images": 90, "dice": 0.76, "iou": 0.61, "box_recall_50": 0.86}
        },
    },
}


def write_files(folder: Path) -> Path:
    """config.json and the files of a release, without its manifest."""
    for name, content in {"config.json": json.dumps(CONFIG).encode(), **FILES}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


@pytest.fixture
def release_folder(tmp_path) -> Path:
    folder = write_files(tmp_path / "release")
    write_manifest(
        folder,
        version="0.1.0",
        revision="abc1234",
        created="2026-01-02T03:04:05+00:00",
        trained_on={"sources": {"kvasir_seg_polyp": {"images": 700}}, "detector": "from random weights"},
        figures=FIGURES,
        notes={"fp32": "Stored as float16."},
    )
    return folder
