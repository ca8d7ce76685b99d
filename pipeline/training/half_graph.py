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
        return convert_float_to_float16(model, keep_io_types=True, node_block_list=list(keep_float))
