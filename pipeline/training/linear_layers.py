"""The linear layers of an ONNX graph: products of an activation with a stored weight."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import onnx
from onnx.numpy_helper import from_array, to_array


@dataclass(frozen=True)
class Linear:
    """`output = given @ weight (+ bias)`; `add` is the node that adds the bias, and `bias` its initializer's name."""

    node: onnx.NodeProto
    add: onnx.NodeProto | None
    bias: str | None

    @property
    def given(self) -> str:
        return self.node.input[0]

    @property
    def weight(self) -> str:
        return self.node.input[1]


class Weights:
    """A graph's initializers, read and written as arrays."""

    def __init__(self, model: onnx.ModelProto):
        self._held = {entry.name: entry for entry in model.graph.initializer}

    def __contains__(self, name: str) -> bool:
        return name in self._held

    def __getitem__(self, name: str) -> np.ndarray:
        return to_array(self._held[name])

    def __setitem__(self, name: str, value: np.ndarray) -> None:
        self._held[name].CopyFrom(from_array(value.astype(self[name].dtype), name))


def users_of(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """Tensor name -> the nodes that take it."""
    users = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            users[name].append(node)
    return users


def makers_of(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Tensor name -> the node that gives it."""
    return {name: node for node in model.graph.node for name in node.output}


def linear_layers(model: onnx.ModelProto) -> dict[str, Linear]:
    """Node name -> layer, in the graph's order."""
    weights, users = Weights(model), users_of(model)
    layers = {}
    for node in model.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in weights:
            continue
        adds = [user for user in users[node.output[0]] if user.op_type == "Add"]
        biases = [name for add in adds for name in add.input if name in weights and weights[name].ndim == 1]
        layers[node.name] = Linear(node, adds[0] if biases else None, biases[0] if biases else None)
    return layers
