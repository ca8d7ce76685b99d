"""Whether the graphs of a release open, which alone says that they can run."""

from __future__ import annotations

from pathlib import Path

from hub.errors import WeightsError


def check_graph(path: Path) -> None:
    """Open a graph as whoever fetches it will. Raises WeightsError where onnxruntime can't."""
    try:
        import onnxruntime
    except ImportError as error:
        raise WeightsError(f"{path}: opening graphs needs onnxruntime; pip install onnxruntime.") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is said below
    options.intra_op_num_threads = 1
    # Only whether it opens is asked: optimizing it, too, would take longer.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path}: onnxruntime can't open this graph ({reason}).") from error
