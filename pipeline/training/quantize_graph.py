"""One float graph and a recipe -> its quantized graph, by optimum's ORTQuantizer and onnxruntime's quantizers."""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantizationMode,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator
from onnxruntime.quantization.shape_inference import quant_pre_process

from pipeline.errors import InputError
from pipeline.runtime import ONNXRUNTIME_ERRORS
from pipeline.training.calibration import Calibration, Feed, image_extremes
from pipeline.training.export import restore_float
from pipeline.training.float_changes import CHANGES
from pipeline.training.half_graph import half_graph
from pipeline.training.linear_layers import linear_layers
from pipeline.training.recipes import Recipe

_EXPECTED = "what `python -m pipeline export` wrote"
#: As the quantizers write them, and as onnxruntime joins them with what surrounds them.
_INTEGER_PRODUCTS = (
    *("MatMulInteger", "ConvInteger", "MatMulNBits"),
    *("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QLinearMatMul", "QLinearConv"),
)
_PRODUCTS = ("Conv", "MatMul", "Gemm")
_METHODS = {
    "min-max": (CalibrationMethod.MinMax, {}),
    "percentile": (CalibrationMethod.Percentile, {"percentile": 99.99}),
    "entropy": (CalibrationMethod.Entropy, {}),
}
#: Share of images whose extremes do not count in trimmed ranges.
_TRIMMED = 0.05
#: Weights that share a scale in 4 bits.
_BLOCK = 32
#: MatMulNBits' word for: activations are rounded to int8 a block, so that int8 dot products serve.
_INT8_ACTIVATIONS = 4


def quantize_graph(name: str, source: Path, calibration: Calibration, recipe: Recipe) -> onnx.ModelProto:
    """One fp32 graph of a release by its recipe. Raises InputError for a graph in which nothing can be quantized."""
    if recipe.needs_images and not calibration.images:
        raise InputError(source, "no image to calibrate it on", "at least one prepared train image")
    with tempfile.TemporaryDirectory() as temporary, _quiet():
        plain = _preprocess(source, Path(temporary) / source.name)
        if recipe.changes:
            graph = onnx.load(plain)
            for change in recipe.changes:
                CHANGES[change](graph, calibration, name)
            onnx.save(graph, plain)
        names = _nodes_of(name, plain, recipe)
        if recipe.mode != "float" and not names:
            raise InputError(source, "not one node could be quantized", _EXPECTED)
        if recipe.products:
            _quantize_products(name, plain, calibration, recipe)
        if recipe.mode == "float":
            return onnx.load(plain)
        graph = _QUANTIZERS[recipe.mode](name, plain, names, calibration, recipe)
    if not count_quantized(graph):
        raise InputError(source, "not one node could be quantized", _EXPECTED)
    return graph


def count_quantized(graph: onnx.ModelProto) -> int:
    """How many convolutions and matrix products compute in int8, from 4-bit weights, or in half precision."""
    dequantized = {name for node in graph.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    halves = {entry.name for entry in graph.graph.initializer if entry.data_type == onnx.TensorProto.FLOAT16}
    return sum(
        node.op_type in _INTEGER_PRODUCTS
        or (node.op_type in _PRODUCTS and (set(node.input[:2]) <= dequantized or node.input[1] in halves))
        for node in graph.graph.node
    )


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


def _nodes_of(name: str, path: Path, recipe: Recipe) -> list[str]:
    """Names of the nodes that the recipe quantizes; none in a graph that is not the release's."""
    model = onnx.load(path)
    if name == "detector":
        names = [node.name for node in model.graph.node if node.op_type in recipe.operators]
        known = [given.name for given in model.graph.input] == ["image"] and any("/heads/" in name for name in names)
        names = names if known else []
    else:
        layers = linear_layers(model)
        names = list(layers)
    floats = set(recipe.floats(names))
    return [node for node in names if node not in floats]


def _dynamic(_: str, path: Path, names: list[str], __: Calibration, recipe: Recipe) -> onnx.ModelProto:
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import QuantizationConfig
    from transformers import PretrainedConfig

    settings = QuantizationConfig(
        is_static=False,
        format=QuantFormat.QOperator,
        mode=QuantizationMode.IntegerOps,
        per_channel=True,
        operators_to_quantize=["MatMul"],
        nodes_to_quantize=names,
    )
    ORTQuantizer(path, PretrainedConfig()).quantize(settings, path.parent / "out", None)
    return onnx.load(path.parent / "out" / path.name)


def _static(name: str, path: Path, names: list[str], calibration: Calibration, recipe: Recipe) -> onnx.ModelProto:
    if recipe.float_outputs:
        return _static_inputs(name, path, names, calibration, recipe)
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import QuantizationConfig
    from transformers import PretrainedConfig

    operators = list(recipe.operators)
    settings = QuantizationConfig(
        is_static=True,
        format=QuantFormat.QDQ,
        mode=QuantizationMode.QLinearOps,
        per_channel=True,
        operators_to_quantize=operators,
        nodes_to_quantize=names,
    )
    quantizer = ORTQuantizer(path, PretrainedConfig())
    quantizer.quantize(settings, path.parent / "out", None, _ranges(name, path, calibration, recipe))
    return onnx.load(path.parent / "out" / path.name)


def _ranges(name: str, path: Path, calibration: Calibration, recipe: Recipe) -> TensorsData:
    """Of every tensor between the recipe's operators."""
    method, options = _METHODS.get(recipe.ranges, _METHODS["min-max"])
    augmented = str(path.with_name("augmented.onnx"))
    calibrator = create_calibrator(path, list(recipe.operators), augmented, method, extra_options=options)
    if method != CalibrationMethod.MinMax:
        for feed in calibration.feeds(name):  # an image at a time: all of them would fill the memory
            calibrator.collect_data(_Reader(iter([feed])))
        return calibrator.compute_data()
    model = onnx.load(path)
    tensors = sorted(calibrator.select_tensors_to_calibrate(model)[0])
    share = _TRIMMED if recipe.ranges == "trimmed" else 0.0
    extremes = image_extremes(model, tensors, calibration.feeds(name))
    ranges = {
        tensor: (np.quantile(least, share, method="higher"), np.quantile(most, 1 - share, method="lower"))
        for tensor, (least, most) in extremes.items()
    }
    return TensorsData(method, {tensor: tuple(np.float32(end) for end in ends) for tensor, ends in ranges.items()})


def _static_inputs(
    name: str, path: Path, names: list[str], calibration: Calibration, recipe: Recipe
) -> onnx.ModelProto:
    """Linear layers whose inputs have fixed ranges."""
    out = path.with_name("quantized.onnx")
    _float_outputs(name, path, out, names, calibration, recipe, per_channel=True)
    return onnx.load(out)


def _quantize_products(name: str, path: Path, calibration: Calibration, recipe: Recipe) -> None:
    """Products of two activations, in place: static ranges, which are one pass less than dynamic ones, and an s8 second
    factor, which int8 dot products want."""
    model = onnx.load(path)
    layers = linear_layers(model)
    nodes = [
        node
        for node in model.graph.node
        if node.op_type == "MatMul"
        and node.name not in layers
        and any(re.search(p, node.name) for p in recipe.products)
    ]
    signed = {"quant_type": QuantType.QInt8, "symmetric": True}
    kinds = {node.input[1]: [signed] for node in nodes}
    names = [node.name for node in nodes]
    _float_outputs(name, path, path, names, calibration, recipe, per_channel=False, TensorQuantOverrides=kinds)


def _float_outputs(
    name: str,
    path: Path,
    out: Path,
    nodes: list[str],
    calibration: Calibration,
    recipe: Recipe,
    *,
    per_channel: bool,
    **extra: dict,
) -> None:
    """MatMuls with static ranges on what goes in, whose outputs stay float; optimum has no word for that."""
    method, options = _METHODS.get(recipe.ranges, _METHODS["min-max"])
    quantize_static(
        path,
        out,
        _Reader(calibration.feeds(name)),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul"],
        nodes_to_quantize=nodes,
        per_channel=per_channel,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=method,
        extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"], **extra, **options},
    )


def _weights4(_: str, path: Path, names: list[str], __: Calibration, ___: Recipe) -> onnx.ModelProto:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    model = onnx.load(path)
    others = [node.name for node in model.graph.node if node.op_type == "MatMul" and node.name not in set(names)]
    quantizer = MatMulNBitsQuantizer(
        model, bits=4, block_size=_BLOCK, is_symmetric=True, accuracy_level=_INT8_ACTIVATIONS, nodes_to_exclude=others
    )
    quantizer.process()
    return quantizer.model.model


def _half(_: str, path: Path, __: list[str], ___: Calibration, recipe: Recipe) -> onnx.ModelProto:
    graph = onnx.load(path)
    return half_graph(graph, recipe.floats(node.name for node in graph.graph.node))


_QUANTIZERS = {"dynamic": _dynamic, "static": _static, "weights4": _weights4, "half": _half}


class _Reader(CalibrationDataReader):
    def __init__(self, feeds: Iterator[Feed]):
        self._feeds = feeds

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantizers' log: it counts nodes and recommends the preprocessing that was just done."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)
