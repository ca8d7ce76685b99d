"""Do once what onnxruntime would do each time it opens a graph: a cold start spends most of its time there.

The optimizer's level is "extended": joined nodes that every onnxruntime has for the CPU, nothing of one processor. What
it folded into something larger (float32 weights out of float16, a position map out of two tables) is unfolded again.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime


def optimize_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph as onnxruntime would run it, no larger than it was."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        optimized = onnx.load(options.optimized_model_filepath)
    _unfold(optimized, model)
    used = {node.domain for node in optimized.graph.node}
    versions = [entry for entry in optimized.opset_import if entry.domain in used]
    del optimized.opset_import[:]
    optimized.opset_import.extend(versions)
    onnx.checker.check_model(optimized)
    return optimized


def _unfold(optimized: onnx.ModelProto, model: onnx.ModelProto) -> None:
    """Give constants that are larger than what they were computed from back as that computation."""
    stored = {entry.name: entry for entry in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    nodes: dict[str, onnx.NodeProto] = {}
    needed: set[str] = set()
    for entry in list(optimized.graph.initializer):
        steps, origins = _computation(entry.name, makers, stored)
        if not steps or sum(_bytes(stored[name]) for name in origins) >= _bytes(entry):
            continue
        optimized.graph.initializer.remove(entry)
        needed |= origins
        nodes |= {step.output[0]: step for step in steps}
    held = {entry.name for entry in optimized.graph.initializer}
    optimized.graph.initializer.extend(stored[name] for name in sorted(needed - held))
    rest = list(optimized.graph.node)
    order = [node for node in model.graph.node if node.output[0] in nodes]
    del optimized.graph.node[:]
    optimized.graph.node.extend([*order, *rest])


def _computation(name: str, makers: dict, stored: dict) -> tuple[list[onnx.NodeProto], set[str]]:
    """The nodes that compute a tensor from stored ones alone, and those; none where it takes an input of the graph."""
    if name in stored:
        return [], {name}
    if name not in makers or not makers[name].input:
        return [], set()
    steps, origins = [makers[name]], set()
    for given in filter(None, makers[name].input):
        more, found = _computation(given, makers, stored)
        if not found:
            return [], set()
        steps += more
        origins |= found
    return steps, origins


def _bytes(entry: onnx.TensorProto) -> int:
    return int(np.prod(entry.dims)) * onnx.helper.tensor_dtype_to_np_dtype(entry.data_type).itemsize
