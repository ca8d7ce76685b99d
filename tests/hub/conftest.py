"""Tiny releases that tests may damage, the Hub on loopback, and machines that talk to it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hub.card import model_card
from hub.release import write_manifest
from tests.hub.loopback_hub import LoopbackHub

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


ROOT = Path(__file__).parents[2]
#: A graph that opens, and small; every other large file of the tests is this one with a byte more.
GRAPH = ROOT / "hub" / "embedded" / "onnx" / "int8" / "scope.onnx"


def make_release(folder: Path, version: str, content: bytes = b"weights") -> Path:
    """A release that may be published: its graphs open, its card is there."""
    write_files(folder)
    for path in folder.glob("onnx/*/*.onnx"):
        shutil.copyfile(GRAPH, path)
    (folder / "training/detector.safetensors").write_bytes(content)
    sources = {"sources": {"kvasir_seg_polyp": {"images": 700}}}
    release = write_manifest(folder, version=version, revision="abc1234", trained_on=sources, figures=FIGURES)
    (folder / "README.md").write_text(model_card(release), "utf-8")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, name -> content; hidden ones too, so that nothing half-written stays unseen."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def loopback() -> Iterator[LoopbackHub]:
    server = LoopbackHub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def machine(loopback, tmp_path) -> Machine:
    return Machine(loopback, tmp_path / "hf")


@dataclass
class Machine:
    """A machine with the real client: each command in a process of its own, as the client reads its settings once."""

    server: LoopbackHub
    home: Path

    def environment(self, **settings: str) -> dict[str, str]:
        env = {name: value for name, value in os.environ.items() if "proxy" not in name.lower() and name[:3] != "HF_"}
        env |= {"HF_ENDPOINT": self.server.url, "HF_HOME": str(self.home), "HF_HUB_DISABLE_XET": "1"}
        env |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1"}
        return env | {"HF_TOKEN": "hf_user"} | settings

    def start(self, *arguments: object, **settings: str) -> subprocess.Popen:
        command = [sys.executable, *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=ROOT, env=self.environment(**settings), **pipes)

    def run(self, *arguments: object, **settings: str) -> subprocess.CompletedProcess:
        process = self.start(*arguments, **settings)
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def hub(self, *arguments: object, **settings: str) -> subprocess.CompletedProcess:
        """python -m hub ..."""
        return self.run("-m", "hub", *arguments, **settings)
