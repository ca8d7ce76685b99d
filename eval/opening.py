"""What onnxruntime makes of a graph when it opens it, how long that takes, and what saving the result would spare.

Opening is timed in turns within one process, files cached. The optimized graph is of level "extended": what "all" adds
(blocked layouts) is of one processor and must not be shipped.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections import Counter
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime

from eval.measured import write_measured
from hub import resolve
from hub.revision import git_revision, machine_name
from hub.tables import markdown_table
from pipeline.errors import InputError
from pipeline.runtime import available_cores
from pipeline.training.noise import noise_feed

_LEVELS = onnxruntime.GraphOptimizationLevel
_GRAPHS = ("detector", "image_encoder", "mask_decoder")
#: Kinds of nodes that tell what was joined.
_TELLING = re.compile("Attention|Gelu|LayerNorm|MatMul|Conv|Gemm|Transpose|QuantizeLinear")


def open_timed(
    path: Path, threads: int, level: onnxruntime.GraphOptimizationLevel, save: Path | None = None
) -> tuple[float, onnxruntime.InferenceSession]:
    """Milliseconds to open a graph, and the session; the optimized graph goes into `save`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.graph_optimization_level = level
    if save is not None:
        options.optimized_model_filepath = str(save)
    start = perf_counter()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return 1000 * (perf_counter() - start), session


def look_at(path: Path, repeats: int, threads: int) -> dict:
    """One graph: ms to open it as it is and as it was saved, the bytes of both, and the executed nodes by kind."""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / path.name
        open_timed(path, threads, _LEVELS.ORT_ENABLE_EXTENDED, saved)
        ways = {
            "as_it_is": (path, _LEVELS.ORT_ENABLE_ALL),
            "saved": (saved, _LEVELS.ORT_ENABLE_ALL),
            "saved_as_final": (saved, _LEVELS.ORT_DISABLE_ALL),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, (file, level) in ways.items():
                times[name].append(open_timed(file, threads, level)[0])
        return {
            "open_ms": {name: round(float(np.median(ms)), 1) for name, ms in times.items()},
            "bytes": {"as_it_is": path.stat().st_size, "saved": saved.stat().st_size},
            "nodes": {"as_it_is": _kinds(path, threads), "saved": _kinds(saved, threads)},
        }


def _kinds(path: Path, threads: int) -> dict[str, int]:
    """Executed nodes by kind, from a profile of one opening without optimization; needs no ONNX package."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        options.graph_optimization_level = _LEVELS.ORT_DISABLE_ALL
        options.enable_profiling, options.profile_file_prefix = True, f"{folder}/profile"
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        session.run(None, noise_feed(session))
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    names = {(e["name"], e["args"]["op_name"]) for e in events if e.get("name", "").endswith("_kernel_time")}
    counts = Counter(kind for _, kind in names)
    return {kind: count for kind, count in sorted(counts.items()) if _TELLING.search(kind)} | {"all": len(names)}


def make_table(results: dict) -> str:
    head = ["graph", "opened", "saved, opened", "saved, opened as it is", "MB", "MB saved", "nodes", "nodes saved"]
    lines = []
    for name, row in results["graphs"].items():
        times = [f"{ms:.0f}" for ms in row["open_ms"].values()]
        sizes = [f"{size / 1e6:.1f}" for size in row["bytes"].values()]
        lines.append((name, *times, *sizes, *(nodes["all"] for nodes in row["nodes"].values())))
    kinds = [
        f"`{name}`, saved: {', '.join(f'{n} {kind}' for kind, n in row['nodes']['saved'].items() if kind != 'all')}."
        for name, row in results["graphs"].items()
    ]
    where = f"Release {results['weights']['version']}, {results['machine']}, revision {results['revision'][:12]}."
    return "\n\n".join([markdown_table(head, lines), *kinds, f"Milliseconds. {where}"]) + "\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--weights", default="embedded", help="'embedded', a release folder, or user/repo@revision")
    add("--precisions", default="int8,fp32", help="comma-separated (default %(default)s)")
    add("--repeats", type=int, default=5, metavar="N", help="how often each is opened (default %(default)s)")
    add("--threads", type=int, default=available_cores(), help="CPU threads (default: all cores)")
    add("--out", type=Path, required=True, metavar="DIR", help="opening.json and opening.md")


def run(arguments: argparse.Namespace) -> int:
    release = resolve(arguments.weights)
    precisions = arguments.precisions.split(",")
    strange = [name for name in precisions if name not in release.precisions]
    if strange:
        raise InputError("--precisions", f"these weights hold no {strange[0]}", ", ".join(release.precisions))
    graphs = {
        f"{precision}/{graph}": look_at(
            release.file(f"onnx/{precision}/{graph}.onnx"), arguments.repeats, arguments.threads
        )
        for precision in precisions
        for graph in _GRAPHS
    }
    results = {"weights": release.identity, "machine": machine_name(), "revision": git_revision(), "graphs": graphs}
    write_measured(arguments.out, "opening", results, make_table(results))
    return 0
