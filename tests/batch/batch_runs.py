"""Batches as processes, and what they left: for tests and the two scripts beside this file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
#: The tables that must not depend on how a batch was interrupted.
LASTING = ("inputs", "detections", "failures")


def start_batch(*words: object, **settings) -> subprocess.Popen:
    """`python -m pipeline batch` in a process group of its own."""
    command = [sys.executable, "-m", "pipeline", "batch", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **{"cwd": ROOT, "start_new_session": True, **pipes, **settings})


def run_batch(*words: object, timeout: float | None = 900, **settings) -> subprocess.CompletedProcess:
    """The same, to its end."""
    with start_batch(*words, **settings) as process:
        try:
            out, said = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, said)


def tables_of(out: Path) -> dict[str, bytes]:
    return {name: (out / f"{name}.parquet").read_bytes() for name in LASTING}


def files_of(out: Path) -> dict[str, bytes]:
    """Every file of the results, JSON without its times; and nothing else may lie there, whatever its name."""
    found = {}
    for folder in ("files", "failed"):
        for path in sorted((out / folder).rglob("*")):
            if path.is_file():
                found[path.relative_to(out).as_posix()] = _without_times(path)
    return found


def _without_times(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix != ".json":
        return content
    record = json.loads(content)
    record.pop("timings_ms", None)
    return json.dumps(record).encode()


def answered_folders(out: Path) -> dict[str, int]:
    """Each finished folder of results and when it was finished: it must never be made again."""
    return {path.name: path.stat().st_mtime_ns for path in out.glob("files/*/*") if not path.name.startswith(".")}


def runs_of(out: Path) -> list[dict]:
    return json.loads((out / "run.json").read_text("utf-8"))["runs"]


def write_variants(sources: Iterable[Path], folder: Path, count: int) -> list[Path]:
    """`count` PNG images of different content: the sources in turn, each time with another first pixel."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for source in sources:
        with Image.open(source) as image:
            pictures.append(np.asarray(image.convert("RGB")))
    paths = []
    for number in range(count):
        pixels = pictures[number % len(pictures)].copy()
        pixels[0, 0] = number // len(pictures) % 256, number // len(pictures) // 256, 0
        paths.append(folder / f"image{number:05d}.png")
        Image.fromarray(pixels).save(paths[-1], compress_level=1)
    return paths


def environment(**changes: str) -> dict[str, str]:
    return os.environ | changes
