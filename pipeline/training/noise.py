"""Noise for the inputs of a release's graphs, to time them and to look at how they run; needs onnxruntime alone."""

from __future__ import annotations

import numpy as np
import onnxruntime

#: Prompts or objects, points or pointers, memories.
_SIDES = {"N": 1, "P": 2, "M": 7}


def noise_feed(session: onnxruntime.InferenceSession) -> dict[str, np.ndarray]:
    """An input for every name that a graph asks for, always the same: one prompt of one box where it takes prompts, one
    object with a full bank where it takes memories."""
    rng = np.random.default_rng(0)
    return {given.name: _noise(given, rng) for given in session.get_inputs()}


def _noise(given: onnxruntime.NodeArg, rng: np.random.Generator) -> np.ndarray:
    shape = [side if isinstance(side, int) else _SIDES[side] for side in given.shape]
    match given.type:
        case "tensor(uint8)":
            return rng.integers(0, 256, shape, np.uint8)
        case "tensor(int64)":
            return rng.integers(0, 2, shape)
    return rng.random(shape, np.float32)
