"""Half precision leaves alone what is to stay float, and what passes between two such nodes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import onnx.parser
import onnxruntime
from onnx import TensorProto

from pipeline.training.half_graph import half_graph

pytestmark = pytest.mark.training

_SIDES = """
<ir_version: 8, opset_import: ["" : 17]>
sides (float[2] edge) => (float[2] side, float[2] twice)
{
  twice = Add (edge, edge)
  area = Mul (twice, twice)
  side = Sqrt (area)
}
"""


@pytest.mark.parametrize(
    ("keep_float", "casts"),
    [
        pytest.param((), 1, id="all half, from the input on"),
        pytest.param(("area",), 2, id="float on the way to a half node"),
        pytest.param(("area", "side"), 1, id="float between two float nodes"),
        pytest.param(("twice", "area", "side"), 0, id="all float"),
    ],
)
def test_what_stays_float(keep_float, casts):
    """In half, the area of 600 by 600 pixels is infinite; onnxruntime on a CPU may round less often than it is told."""
    model = onnx.parser.parse_model(_SIDES)
    for node in model.graph.node:
        node.name = node.output[0]
    made = half_graph(model, keep_float)
    to_half = [
        node for node in made.graph.node if node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT16
    ]
    assert len(to_half) == casts
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    edge = np.float32([300.0, 3.0])
    side, twice = session.run(None, {"edge": edge})
    np.testing.assert_array_equal(twice, 2 * edge)
    if "area" in keep_float and "side" in keep_float:
        np.testing.assert_array_equal(side, 2 * edge)
