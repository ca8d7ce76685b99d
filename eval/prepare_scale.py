"""`prepare` at the method's scale: 20,000 images and 1,000 short videos, drawn here, and the memory that it takes.

`python -m eval prepare-scale --out runs/scale` draws a data set into `OUT/drawn` (COCO JSON, PNG files, and MP4 files
whose frames are labelled), runs `python -m pipeline prepare` on it, and writes `scale.json` and `scale.md`: images a
second of the clock and of the processor, which a busy machine does not change, and the memory of the command and of its
workers over time. A set that is there already is taken as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import psutil
from PIL import Image, ImageDraw
from tqdm import tqdm

from hub.files import replace_file, replace_path
from hub.revision import machine_name
from hub.tables import markdown_table
from pipeline.errors import InputError

_ROOT = Path(__file__).parents[1]
_IMAGE, _VIDEO, _FRAMES = (400, 320), (160, 128), 24
_SAMPLE_SECONDS = 1.0
#: The part of a run at whose start memory is first looked at: what python and the libraries take at once is no growth.
_WARM = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=20_000, help="default: %(default)s")
    parser.add_argument("--videos", type=int, default=1_000, help=f"of {_FRAMES} frames (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=None, help="of prepare (default: one a core)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the set, and what comes of it")


def run(arguments: argparse.Namespace) -> int:
    drawn, prepared = arguments.out / "drawn", arguments.out / "prepared"
    drawn.mkdir(parents=True, exist_ok=True)
    draw_set(drawn, arguments.images, arguments.videos)
    shutil.rmtree(prepared, ignore_errors=True)
    found = measure(drawn / "set.json", prepared, arguments.workers)
    found |= {"images": arguments.images, "videos": arguments.videos, "frames": arguments.videos * _FRAMES}
    for name in ("seconds", "processor_seconds"):
        found[f"images_a_{name[:-1]}"] = round((found["images"] + found["frames"]) / found[name], 1)
    for name, text in (("scale.json", json.dumps(found, indent=1) + "\n"), ("scale.md", markdown(found))):
        with replace_file(arguments.out / name) as file:
            file.write(text)
    print(markdown(found), end="")
    return 0


def draw_set(folder: Path, images: int, videos: int) -> None:
    """COCO JSON of grey pictures and of videos with a bright ellipse each, outlined by a polygon."""
    path = folder / "set.json"
    wanted = {"images": images, "videos": videos}
    if path.is_file():
        info = json.loads(path.read_text("utf-8")).get("info")
        if info != wanted:
            raise InputError(path, f"a set of {info}", f"one of {wanted}, or another --out")
        return
    (folder / "images").mkdir(exist_ok=True)
    content: dict = {"info": wanted, "categories": [{"id": 1, "name": "ellipse"}], "images": [], "videos": [],
                     "annotations": []}  # fmt: skip
    chance = np.random.default_rng(0)
    for number in tqdm(range(images), desc="images", disable=None):
        place = _place(chance, _IMAGE)
        Image.fromarray(_picture(chance, _IMAGE, place)).save(folder / "images" / f"{number:06d}.png", compress_level=1)
        _note(content, f"{number:06d}.png", place, {"patient": f"p{number // 4}"})
    for number in tqdm(range(videos), desc="videos", disable=None):
        name = f"{number:05d}.mp4"
        content["videos"].append({"id": number, "file_name": name})
        start = _place(chance, _VIDEO)
        places = [tuple(np.add(start, (step / 4, 0, 0, 0))) for step in range(_FRAMES)]
        _write_video(folder / "images" / name, [_picture(chance, _VIDEO, place) for place in places])
        for frame, place in enumerate(places):
            _note(content, f"{number:05d}/{frame:03d}", place, {"video_id": number, "frame_id": frame})
    with replace_file(path) as file:
        json.dump(content, file)


def _place(chance: np.random.Generator, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Centre and radii of an ellipse that stays inside."""
    width, height = size
    radii = chance.uniform(0.1, 0.2, 2) * height
    return (*chance.uniform(0.3, 0.6, 2) * (width, height), *radii)


def _picture(chance: np.random.Generator, size: tuple[int, int], place: tuple[float, ...]) -> np.ndarray:
    """uint8 (H, W): noise with an ellipse in it."""
    x, y, across, down = place
    image = Image.fromarray(chance.integers(0, 60, size[::-1], np.uint8))
    ImageDraw.Draw(image).ellipse((x - across, y - down, x + across, y + down), fill=180)
    return np.asarray(image)


def _write_video(path: Path, frames: list[np.ndarray]) -> None:
    with replace_path(path) as temporary, av.open(str(temporary), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.height, stream.width = frames[0].shape
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "gray8")))
        container.mux(stream.encode())


def _note(content: dict, name: str, place: tuple[float, ...], about: dict) -> None:
    number = len(content["images"]) + 1
    x, y, across, down = place
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    outline = np.stack([x + across * np.cos(turn), y + down * np.sin(turn)], 1).round(2).ravel().tolist()
    content["images"].append({"id": number, "file_name": name, **about})
    content["annotations"].append({"id": number, "image_id": number, "category_id": 1, "segmentation": [outline]})


def measure(source: Path, prepared: Path, workers: int | None) -> dict:
    """Run `prepare`; the memory in MB (10^6) of its process and of its largest worker, once a second."""
    words = [sys.executable, "-m", "pipeline", "prepare", str(source), "--out", str(prepared)]
    words += ["--workers", str(workers)] if workers else []
    start, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = psutil.Popen(words, cwd=_ROOT, stdout=subprocess.DEVNULL)
    samples = []
    while process.poll() is None:
        try:
            parent = process.memory_info().rss / 1e6
            children = [child.memory_info().rss / 1e6 for child in process.children()]
        except psutil.Error:
            break
        largest = max(children, default=0.0)
        samples.append([round(time.monotonic() - start, 1), round(parent, 1), round(largest, 1)])
        time.sleep(_SAMPLE_SECONDS)
    if process.wait():
        raise InputError("prepare", f"ended with {process.returncode}", "0")
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    warm = [sample for sample in samples if sample[2] and sample[0] >= _WARM * seconds]
    return {
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor, 1),
        "machine": machine_name(),
        "load_average": os.getloadavg(),
        "workers": workers or os.cpu_count(),
        "worker_mb": {"warm": warm[0][2], "end": warm[-1][2], "most": max(sample[2] for sample in samples)},
        "command_mb": {"warm": warm[0][1], "end": samples[-1][1], "most": max(sample[1] for sample in samples)},
        "samples": samples,
    }


def markdown(found: dict) -> str:
    """Two sentences and a table."""
    rows = [
        (name, *(f"{found[key][when]:.0f}" for when in ("warm", "end", "most")))
        for name, key in (("the largest worker", "worker_mb"), ("the command itself", "command_mb"))
    ]
    lines = [
        f"{found['images']} images and {found['videos']} videos of {_FRAMES} frames in {found['seconds']:.0f} s: "
        f"{found['images_a_second']} images and frames a second with {found['workers']} workers, {found['machine']}, "
        f"load {found['load_average'][0]:.1f}; {found['images_a_processor_second']} a second of one core.",
        "",
        markdown_table(("MB", "at a fifth of the time", "at the end", "most"), rows),
    ]
    return "\n".join(lines) + "\n"
