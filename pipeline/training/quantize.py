"""`python -m pipeline quantize`: a release's fp32 graphs -> INT8 graphs beside them, or those of another precision.

What is quantized in each graph, how, and what stays float stands in `pipeline.training.recipes`. Detector: statically,
its ranges come from prepared train images. Encoder: its linear layers dynamically, its attention products with static
ranges; its one convolution stays float. Decoder: its linear layers with static ranges on their inputs; dynamic ones
would span all prompts of a run, so that one object's mask depended on the others. The memory, where there is one: its
linear layers dynamically, as an object a run. Weights are s8 a channel,
activations u8.
"""

from __future__ import annotations

import argparse
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hub.files import replace_path
from hub.release import Release
from pipeline.errors import InputError
from pipeline.runtime import open_session
from pipeline.training.calibration import Calibration, pick_images
from pipeline.training.export import GRAPHS, list_files, memory_graphs_in, save_graph, store_half
from pipeline.training.noise import noise_feed
from pipeline.training.optimize_graph import optimize_graph
from pipeline.training.prepared import PreparedSplit
from pipeline.training.quantize_graph import count_quantized, quantize_graph
from pipeline.training.recipes import RECIPES


@dataclass(frozen=True)
class Quantized:
    """One graph, before and after."""

    name: str
    nodes: int
    bytes: tuple[int, int]
    ms: tuple[float, float]


def quantize_release(
    folder: Path, prepared: Path | None, images: int = 32, precision: str = "int8"
) -> tuple[Release, list[Quantized]]:
    """Write onnx/<precision>/*.onnx into a release that holds onnx/fp32/*.onnx, and its manifest anew.

    `images` train images of the prepared folder, evenly over its sources, calibrate the detector; fp16 needs none.
    """
    release = Release.open(folder)
    picked = _images(prepared, images, precision)
    sources = {name: release.file(f"onnx/fp32/{name}.onnx") for name in (*GRAPHS, *memory_graphs_in(release))}
    # all of them, before any is written: a release holds a precision as a whole
    calibration = Calibration(picked, release.config, sources["image_encoder"])
    recipes = RECIPES[precision]
    graphs = {name: quantize_graph(name, source, calibration, recipes[name]) for name, source in sources.items()}
    done = []
    for name, graph in graphs.items():
        target = folder / "onnx" / precision / f"{name}.onnx"
        # onnxruntime here would take a half-precision graph apart again: it optimizes for this machine's CPU
        save_graph(graph if recipes[name].mode == "half" else optimize_graph(store_half(graph)), target)
        paths = sources[name], target
        sizes, times = (path.stat().st_size for path in paths), (_median_ms(path) for path in paths)
        done.append(Quantized(name, count_quantized(graph), tuple(sizes), tuple(times)))
    if "onnx/fp32/scope.onnx" in release.manifest["files"]:  # it is small and stays as it is
        scope = folder / "onnx" / precision / "scope.onnx"
        with replace_path(scope) as temporary:
            shutil.copyfile(release.file("onnx/fp32/scope.onnx"), temporary)
    trained_on = release.manifest.get("trained_on", {})
    licenses = release.manifest.get("licenses")
    return list_files(folder, version=release.version, trained_on=trained_on, licenses=licenses), done


def _images(prepared: Path | None, count: int, precision: str) -> list:
    if not any(recipe.needs_images for recipe in RECIPES[precision].values()):
        return []
    if prepared is None:
        raise InputError("--calibration", "not given", f"a prepared folder, whose train images {precision} needs")
    return pick_images(PreparedSplit.read(prepared, "train"), count, prepared / "train.json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--release", type=Path, required=True, metavar="DIR", help="release folder that `export` wrote")
    text = "prepared folder; its train images set the detector's ranges; not needed for fp16"
    parser.add_argument("--calibration", type=Path, metavar="DIR", help=text)
    text = "how many of them, evenly over the sources (default %(default)s)"
    parser.add_argument("--images", type=int, default=32, metavar="N", help=text)
    text = "what to make, by the recipes of pipeline/training/recipes.py (default %(default)s)"
    parser.add_argument("--precision", choices=tuple(RECIPES), default="int8", help=text)


def run(arguments: argparse.Namespace) -> int:
    if arguments.images < 1:
        raise InputError("--images", str(arguments.images), "1 or more")
    release, graphs = quantize_release(arguments.release, arguments.calibration, arguments.images, arguments.precision)
    print(f"{'':16}{'quantized':>12}{'MB':>18}{'ms':>18}")
    for graph in graphs:
        sizes = " -> ".join(f"{size / 1e6:.1f}" for size in graph.bytes)
        times = " -> ".join(f"{ms:.1f}" for ms in graph.ms)
        print(f"{graph.name:16}{graph.nodes:>12}{sizes:>18}{times:>18}")
    total = sum(graph.bytes[1] for graph in graphs) / 1e6
    held = ", ".join(release.precisions)
    print(f"{release.folder}: release {release.version}, {held}; {arguments.precision} {total:.1f} MB")
    return 0


def _median_ms(path: Path, runs: int = 9) -> float:
    """Median wall time of a graph on noise, all cores."""
    session = open_session(path)
    feeds = noise_feed(session)
    session.run(None, feeds)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        session.run(None, feeds)
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times))
