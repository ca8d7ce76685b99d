"""Changes of a float graph that leave what it computes as it is, but make it easier to quantize or faster to run.

- `integrate-modes`: Bimodal Integration (PTQ4SAM, Lv et al., CVPR 2024). A channel of the keys whose mean is negative
  changes its sign, in the key's weights and in the query's, so the products stay. Keys with two peaks then have one,
  which a range a tensor covers twice as finely. Blocks that pool their queries are left out: a maximum does not commute
  with a sign. It matters only where the attention products are quantized; elsewhere it is a no-op.
- `migrate-scales`: SmoothQuant (Xiao et al., ICML 2023). A LayerNorm's output channels are divided by a factor, in its
  weights, and the linear layers after it multiplied by it, so that a range a tensor suits all channels.
- `correct-biases`: what rounding a layer's weights shifts its output by, on the mean of its input, goes into its bias
  (Nagel et al., ICCV 2019). This one does change the float graph, by that much.
- `fuse-attention`: scores, softmax and mean as one MultiHeadAttention node, which never writes the scores to memory;
  its heads need no transposition, and blocks that look at the whole image none at all.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx.numpy_helper import from_array

from pipeline.training.calibration import Calibration, channel_statistics
from pipeline.training.linear_layers import Linear, Weights, linear_layers, makers_of, users_of

#: How far ranges move from activations into weights: SmoothQuant's alpha.
_MIGRATION = 0.5
_LEVELS = 127


def integrate_modes(model: onnx.ModelProto, calibration: Calibration, graph: str) -> int:
    """In place; returns the number of attentions whose keys were turned."""
    layers, weights, users = linear_layers(model), Weights(model), users_of(model)
    pairs = {
        name: name.replace("/query/", "/key/")
        for name in layers
        if "/query/" in name and not _is_pooled(layers[name], users)
    }
    keys = {key: layers[key].add.output[0] if layers[key].add else layers[key].node.output[0] for key in pairs.values()}
    seen = channel_statistics(model, list(keys.values()), calibration.feeds(graph))
    for query, key in pairs.items():
        signs = np.where(seen[keys[key]].mean < 0, -1, 1)
        for layer in (layers[query], layers[key]):
            weights[layer.weight] = weights[layer.weight] * signs
            if layer.bias:
                weights[layer.bias] = weights[layer.bias] * signs
    return len(pairs)


def _is_pooled(query: Linear, users: dict[str, list[onnx.NodeProto]]) -> bool:
    """Whether a maximum is taken of the queries before they meet the keys."""
    node = query.add or query.node
    while node.op_type != "MatMul" or node is query.node:
        node = users[node.output[0]][0]
        if node.op_type == "ReduceMax":
            return True
    return False


def migrate_scales(model: onnx.ModelProto, calibration: Calibration, graph: str) -> int:
    """In place; returns the number of LayerNorms that were scaled."""
    layers, weights, users = linear_layers(model), Weights(model), users_of(model)
    norms = [
        node
        for node in model.graph.node
        if node.op_type == "LayerNormalization"
        and len(node.input) == 3
        and all(user.name in layers and layers[user.name].given == node.output[0] for user in users[node.output[0]])
    ]
    seen = channel_statistics(model, [norm.output[0] for norm in norms], calibration.feeds(graph))
    for norm in norms:
        following = [layers[user.name] for user in users[norm.output[0]]]
        rows = np.max([np.abs(weights[layer.weight]).max(1) for layer in following], axis=0)
        largest = seen[norm.output[0]].largest
        factor = np.maximum(largest, 1e-5) ** _MIGRATION / np.maximum(rows, 1e-5) ** (1 - _MIGRATION)
        for name in norm.input[1:]:
            weights[name] = weights[name] / factor
        for layer in following:
            weights[layer.weight] = weights[layer.weight] * factor[:, None]
    return len(norms)


def correct_biases(model: onnx.ModelProto, calibration: Calibration, graph: str) -> int:
    """In place; returns the number of layers. Those without a bias are left out: an addition costs time."""
    layers = {name: layer for name, layer in linear_layers(model).items() if layer.bias}
    weights = Weights(model)
    given = list(dict.fromkeys(layer.given for layer in layers.values()))
    seen = channel_statistics(model, given, calibration.feeds(graph))
    for layer in layers.values():
        weight = weights[layer.weight]
        lost = weight - _rounded(weight)
        weights[layer.bias] = weights[layer.bias] + seen[layer.given].mean @ lost
    return len(layers)


def _rounded(weight: np.ndarray) -> np.ndarray:
    """A weight (inputs, outputs) as s8 a column gives it."""
    scale = np.maximum(np.abs(weight).max(0), 1e-12) / _LEVELS
    return (weight / scale).round() * scale


def fuse_attention(model: onnx.ModelProto, calibration: Calibration | None = None, graph: str = "") -> int:
    """In place; returns the number of attentions of Hiera's form that were fused."""
    weights, makers, users = Weights(model), makers_of(model), users_of(model)
    shapes: dict[str, onnx.TensorProto] = {}
    fused = 0
    for softmax in [node for node in model.graph.node if node.op_type == "Softmax"]:
        parts = _attention_parts(softmax, makers, users)
        if parts is None:
            continue
        query, key, value, leaving = parts
        name = softmax.name.removesuffix("/Softmax")
        heads = int(weights[query[0].input[1]][4])
        nodes, tokens = [], []
        for role, (split, *_) in (("query", query), ("key", key), ("value", value)):
            rows, height, columns, width, _, depth = weights[split.input[1]].tolist()
            made = _windows(f"{name}/{role}", split.input[0], (rows, height, columns, width, heads * depth), shapes)
            nodes += made
            tokens.append(made[-1].output[0])
        whole = leaving[3]
        rows, columns, _, height, width, depth = weights[leaving[1].input[1]].tolist()
        nodes.append(
            onnx.helper.make_node(
                "MultiHeadAttention",
                tokens,
                [f"{name}/attended"],
                f"{name}/MultiHeadAttention",
                domain="com.microsoft",
                num_heads=heads,
                scale=1.0,
            )
        )
        back = f"{name}/attended"
        if rows * columns > 1:
            grid = _shape(f"{name}/grid", (rows, columns, height, width, heads * depth), shapes)
            nodes.append(onnx.helper.make_node("Reshape", [back, grid], [f"{back}/grid"], f"{back}/grid"))
            nodes.append(
                onnx.helper.make_node(
                    "Transpose", [f"{back}/grid"], [f"{back}/rows"], f"{back}/rows", perm=[0, 2, 1, 3, 4]
                )
            )
            back = f"{back}/rows"
        nodes.append(onnx.helper.make_node("Reshape", [back, whole.input[1]], list(whole.output), whole.name))
        gone = [*query, *key, *value, *leaving, softmax, makers[softmax.input[0]]]
        _replace(model, gone, nodes)
        fused += 1
    model.graph.initializer.extend(shapes.values())
    if fused:
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return fused


def _attention_parts(softmax: onnx.NodeProto, makers: dict, users: dict) -> tuple | None:
    """The Reshape, Transpose, Reshape of queries, keys (and a Transpose) and values, and what comes after the softmax:
    MatMul, Reshape, Transpose, Reshape."""

    def before(name: str, kinds: tuple[str, ...]) -> list[onnx.NodeProto] | None:
        found = []
        for kind in reversed(kinds):
            node = makers.get(name)
            if node is None or node.op_type != kind:
                return None
            found.append(node)
            name = node.input[0]
        return found[::-1]

    scores = makers.get(softmax.input[0])
    if scores is None or scores.op_type != "MatMul":
        return None
    leaving = [users[softmax.output[0]][0]]
    for kind in ("Reshape", "Transpose", "Reshape"):
        following = users[leaving[-1].output[0]]
        if len(following) != 1 or following[0].op_type != kind:
            return None
        leaving.append(following[0])
    windows = ("Reshape", "Transpose", "Reshape")
    query = before(scores.input[0], windows)
    key = before(scores.input[1], (*windows, "Transpose"))
    value = before(leaving[0].input[1], windows)
    return (query, key, value, leaving) if query and key and value else None


def _windows(name: str, given: str, shape: tuple[int, ...], shapes: dict) -> list[onnx.NodeProto]:
    """(1, rows * height, columns * width, C) -> (rows * columns, height * width, C)."""
    rows, height, columns, width, channels = shape
    nodes = []
    if rows * columns > 1:
        grid = _shape(f"{name}/grid", shape, shapes)
        nodes.append(onnx.helper.make_node("Reshape", [given, grid], [f"{name}/grid_of"], f"{name}/grid_of"))
        nodes.append(
            onnx.helper.make_node(
                "Transpose", [f"{name}/grid_of"], [f"{name}/cut"], f"{name}/cut", perm=[0, 2, 1, 3, 4]
            )
        )
        given = f"{name}/cut"
    tokens = _shape(f"{name}/tokens", (rows * columns, height * width, channels), shapes)
    nodes.append(onnx.helper.make_node("Reshape", [given, tokens], [f"{name}/tokens_of"], f"{name}/tokens_of"))
    return nodes


def _shape(name: str, shape: tuple[int, ...], shapes: dict[str, onnx.TensorProto]) -> str:
    shapes[name] = from_array(np.array(shape, np.int64), name)
    return name


def _replace(model: onnx.ModelProto, gone: list[onnx.NodeProto], nodes: list[onnx.NodeProto]) -> None:
    """Put nodes where the last of those that go away stood, so that the graph stays in order."""
    names = {node.output[0] for node in gone}
    kept, last = [], 0
    for node in model.graph.node:
        if node.output[0] in names:
            last = len(kept)
        else:
            kept.append(node)
    kept = [*kept[:last], *nodes, *kept[last:]]
    del model.graph.node[:]
    model.graph.node.extend(kept)


#: By the name in a recipe.
CHANGES: dict[str, Callable[[onnx.ModelProto, Calibration, str], int]] = {
    "integrate-modes": integrate_modes,
    "migrate-scales": migrate_scales,
    "correct-biases": correct_biases,
    "fuse-attention": fuse_attention,
}
