"""`python -m pipeline quantize`: the fp32 graphs of a release -> INT8 graphs beside them, by optimum's ORTQuantizer.

The detector is quantized statically (its ranges come from prepared train images); the segmenter's encoder dynamically,
its linear layers alone: convolutions are slow that way, and products of two activations lose more than they gain.
Weights are s8 a channel, activations u8. The decoder stays float: its dynamic ranges would span all prompts of a run,
so that one object's mask depended on the others (1 % of its pixels), for 3 MB and hardly any time.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnxruntime import NodeArg
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantizationMode
from onnxruntime.quantization.shape_inference import quant_pre_process

from hub.release import Release
from pipeline.errors import InputError
from pipeline.geometry import Resize
from pipeline.runtime import ONNXRUNTIME_ERRORS, open_session
from pipeline.training.export import GRAPHS, list_files, restore_float, save_graph, store_half
from pipeline.training.prepared import PreparedImage, PreparedSplit

#: What runs as int8 between convolutions without going through float. Sigmoid, Softmax and the rest stay float.
_DETECTOR_OPERATORS = ["Conv", "Add", "Concat", "MaxPool", "Relu"]
_EXPECTED = "what `python -m pipeline export` wrote"
#: Graphs that an int8 release holds as they are, and why: see above.
_FLOAT_GRAPHS = ("mask_decoder",)
_INTEGER_PRODUCTS = ("MatMulInteger", "ConvInteger")


@dataclass(frozen=True)
class Quantized:
    """One graph, before and after."""

    name: str
    nodes: int
    bytes: tuple[int, int]
    ms: tuple[float, float]


def quantize_release(folder: Path, prepared: Path, images: int = 32) -> tuple[Release, list[Quantized]]:
    """Write onnx/int8/*.onnx into a release that holds onnx/fp32/*.onnx, and its manifest anew.

    `images` train images of the prepared folder, evenly over its sources, calibrate the detector.
    """
    release = Release.open(folder)
    calibration = pick_images(PreparedSplit.read(prepared, "train"), images, prepared / "train.json")
    sources = {name: release.file(f"onnx/fp32/{name}.onnx") for name in GRAPHS}
    # all of them, before any is written: a release holds a precision as a whole
    graphs = {name: quantize_graph(name, source, calibration, release.config) for name, source in sources.items()}
    done = []
    for name, graph in graphs.items():
        target = folder / "onnx" / "int8" / f"{name}.onnx"
        save_graph(store_half(graph), target)
        paths = sources[name], target
        sizes, times = (path.stat().st_size for path in paths), (_median_ms(path) for path in paths)
        done.append(Quantized(name, count_quantized(graph), tuple(sizes), tuple(times)))
    trained_on = release.manifest.get("trained_on", {})
    licenses = release.manifest.get("licenses")
    return list_files(folder, version=release.version, trained_on=trained_on, licenses=licenses), done


def count_quantized(graph: onnx.ModelProto) -> int:
    """How many convolutions and matrix products compute in int8."""
    dequantized = {name for node in graph.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    return sum(
        node.op_type in _INTEGER_PRODUCTS
        or (node.op_type in ("Conv", "MatMul", "Gemm") and set(node.input[:2]) <= dequantized)
        for node in graph.graph.node
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--release", type=Path, required=True, metavar="DIR", help="release folder that `export` wrote")
    text = "prepared folder; its train images set the detector's ranges"
    parser.add_argument("--calibration", type=Path, required=True, metavar="DIR", help=text)
    text = "how many of them, evenly over the sources (default %(default)s)"
    parser.add_argument("--images", type=int, default=32, metavar="N", help=text)


def run(arguments: argparse.Namespace) -> int:
    if arguments.images < 1:
        raise InputError("--images", str(arguments.images), "1 or more")
    release, graphs = quantize_release(arguments.release, arguments.calibration, arguments.images)
    print(f"{'':16}{'int8 nodes':>12}{'MB':>18}{'ms':>18}")
    for graph in graphs:
        sizes = " -> ".join(f"{size / 1e6:.1f}" for size in graph.bytes)
        times = " -> ".join(f"{ms:.1f}" for ms in graph.ms)
        print(f"{graph.name:16}{graph.nodes:>12}{sizes:>18}{times:>18}")
    total = sum(graph.bytes[1] for graph in graphs)
    print(f"{release.folder}: release {release.version}, {', '.join(release.precisions)}; int8 {total / 1e6:.1f} MB")
    return 0


def quantize_graph(name: str, source: Path, calibration: list[PreparedImage], config: dict) -> onnx.ModelProto:
    """One fp32 graph of a release -> its int8 graph. Only the detector needs the images. Raises InputError."""
    with tempfile.TemporaryDirectory() as temporary, _quiet():
        plain = _preprocess(source, Path(temporary) / source.name)
        if name in _FLOAT_GRAPHS:
            return onnx.load(plain)
        if name == "detector":
            graph = _quantize_detector(plain, _Canvases(calibration, config["detector"]["input_size"]))
        else:
            graph = _quantize_linear_layers(plain)
    if graph is None or not count_quantized(graph):
        raise InputError(source, "not one node could be quantized", _EXPECTED)
    return graph


def _preprocess(source: Path, target: Path) -> Path:
    """Infer shapes and turn the weights back into float32.

    onnxruntime's optimizer is left out: the graphs are folded, and it would join MatMul and Add into Gemm, which the
    dynamic quantizer passes over.
    """
    try:
        graph = onnx.load(source)
        if not graph.graph.node:  # how an empty file reads
            raise InputError(source, "no usable ONNX graph (it is empty)", _EXPECTED)
        restore_float(graph)
        quant_pre_process(graph, target, skip_optimization=True, auto_merge=True)
    except (DecodeError, *ONNXRUNTIME_ERRORS) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(source, f"no usable ONNX graph ({reason})", _EXPECTED) from None
    return target


def _quantize_detector(path: Path, canvases: _Canvases) -> onnx.ModelProto | None:
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import CalibrationConfig, QuantizationConfig
    from transformers import PretrainedConfig

    graph = onnx.load(path).graph
    names = [node.name for node in graph.node]
    if [given.name for given in graph.input] != ["image"] or not any("/heads/" in name for name in names):
        return None
    # The box-regression end turns bins into pixels and the class scores are thresholds: both stay float.
    ends = [name for name in names if "/heads/" in name and not any(part in name for part in ("/stem/", "_convs/"))]
    settings = QuantizationConfig(
        is_static=True,
        format=QuantFormat.QDQ,
        mode=QuantizationMode.QLinearOps,
        per_channel=True,
        operators_to_quantize=_DETECTOR_OPERATORS,
        nodes_to_exclude=ends,
    )
    method = CalibrationConfig("prepared", "", "train", len(canvases.images), CalibrationMethod.MinMax)
    quantizer = ORTQuantizer(path, PretrainedConfig())
    ranges = quantizer.fit(canvases, method, path.with_name("augmented.onnx"), _DETECTOR_OPERATORS)
    quantizer.quantize(settings, path.parent / "out", None, ranges)
    return onnx.load(path.parent / "out" / path.name)


def _quantize_linear_layers(path: Path) -> onnx.ModelProto | None:
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import QuantizationConfig
    from transformers import PretrainedConfig

    graph = onnx.load(path).graph
    weights = {weight.name for weight in graph.initializer}
    linear = [node.name for node in graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    if not linear:  # to the quantizer, an empty list would mean all nodes
        return None
    settings = QuantizationConfig(
        is_static=False,
        format=QuantFormat.QOperator,
        mode=QuantizationMode.IntegerOps,
        per_channel=True,
        operators_to_quantize=["MatMul"],
        nodes_to_quantize=linear,
    )
    ORTQuantizer(path, PretrainedConfig()).quantize(settings, path.parent / "out", None)
    return onnx.load(path.parent / "out" / path.name)


class _Canvases:
    """Prepared canvases as the detector's input, one at a time."""

    def __init__(self, images: list[PreparedImage], size: int):
        self.images, self.size = images, size

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for image in self.images:
            pixels = image.pixels()
            height, width = pixels.shape[:2]
            yield {"image": Resize.plan(width, height, self.size, "letterbox").image(pixels)}


def pick_images(split: PreparedSplit, count: int, subject: Path) -> list[PreparedImage]:
    """About `count` images with regions, in turns from each source, evenly spaced in it; `subject` for the error."""
    by_source = defaultdict(list)
    for image in split.images:
        if len(image.boxes):
            by_source[image.source].append(image)
    if not by_source:
        expected = "at least one, in a folder that `python -m pipeline prepare` wrote"
        raise InputError(subject, "no train image with a region to calibrate on", expected)
    share = -(-count // len(by_source))
    spaced = [
        [images[i] for i in np.unique(np.linspace(0, len(images) - 1, share).round().astype(int))]
        for _, images in sorted(by_source.items())
    ]
    turns = [images[turn] for turn in range(share) for images in spaced if turn < len(images)]
    return turns[:count]


def _median_ms(path: Path, runs: int = 9) -> float:
    """Median wall time of a graph on noise, all cores."""
    session, rng = open_session(path), np.random.default_rng(0)
    feeds = {given.name: _noise(given, rng) for given in session.get_inputs()}
    session.run(None, feeds)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        session.run(None, feeds)
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times))


def _noise(given: NodeArg, rng: np.random.Generator) -> np.ndarray:
    """Noise for one input of a graph: one prompt of one box where it takes prompts."""
    shape = [side if isinstance(side, int) else {"N": 1, "P": 2}[side] for side in given.shape]
    match given.type:
        case "tensor(uint8)":
            return rng.integers(0, 256, shape, np.uint8)
        case "tensor(int64)":
            return rng.integers(0, 2, shape)
    return rng.random(shape, np.float32)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantizer's log: it counts nodes and recommends the preprocessing that was just done."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)
