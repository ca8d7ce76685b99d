"""A float32 graph -> one that computes in float16, by onnxruntime's converter; inputs and outputs stay float32.

Where a processor has no half-precision kernels, onnxruntime computes such a graph in float32 and rounds between steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import onnx


def half_graph(model: onnx.ModelProto, keep_float: Sequence[str] = ()) -> onnx.ModelProto:
    """The graph in half precision but for the nodes named in `keep_float` and those that have no half kernel anywhere
    (non-maximum suppression, the largest k)."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings():  # one for each weight below the smallest half: it becomes that half
        warnings.simplefilter("ignore", UserWarning)
        graph = convert_float_to_float16(model, keep_io_types=True, node_block_list=list(keep_float))
    _stay_float(graph)
    return graph


def _stay_float(model: onnx.ModelProto) -> None:
    """In place: what a float node gives stays float on its way to another. The converter hands it on as half, in which
    an area in pixels overflows."""
    makers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        given = makers.get(node.input[0]) if _casts_to(node, onnx.TensorProto.FLOAT) else None
        if given is not None and _casts_to(given, onnx.TensorProto.FLOAT16):
            node.CopyFrom(onnx.helper.make_node("Identity", [given.input[0]], [node.output[0]], node.name))
    used = {name for node in model.graph.node for name in node.input} | {given.name for given in model.graph.output}
    for node in list(model.graph.node):
        if node.op_type == "Cast" and node.output[0] not in used:
            model.graph.node.remove(node)


def _casts_to(node: onnx.NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and node.attribute[0].i == kind
