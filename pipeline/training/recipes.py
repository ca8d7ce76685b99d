"""What is quantized in each graph, how, and what stays float and why. Chosen on val: eval/results/int8.md."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

MODES = ("float", "half", "dynamic", "static", "weights4")
RANGES = ("min-max", "trimmed", "percentile", "entropy")


@dataclass(frozen=True)
class Recipe:
    """How one graph becomes integers.

    Attributes
    ----------
    mode
        'dynamic': s8 weights a channel, u8 activations with a range a tensor and run; 'static': with ranges from
        calibration images; 'weights4': 4-bit weights a block of 32, activations stay float; 'half': all of it in
        float16; 'float': nothing.
    operators
        ONNX operators that compute in int8, or hand int8 on.
    keep_float
        Regular expression of node names -> why these stay float.
    ranges
        How static ranges are read off the calibration images: one of RANGES. 'trimmed' is min-max without the 5 % of
        images that reach farthest, a tensor and side.
    changes
        Names of `pipeline.training.float_changes.CHANGES`, applied in this order to the float graph first. Each leaves
        what the float graph computes as it is, to rounding.
    float_outputs
        Of a static MatMul: its output is not rounded to u8.
    products
        Regular expressions of products of two activations that compute in int8, with ranges from calibration images:
        the first factor u8, the second s8.
    """

    mode: str
    operators: tuple[str, ...] = ()
    keep_float: dict[str, str] = field(default_factory=dict)
    ranges: str = "min-max"
    changes: tuple[str, ...] = ()
    float_outputs: bool = False
    products: tuple[str, ...] = ()

    def __post_init__(self):
        if self.mode not in MODES or self.ranges not in RANGES:
            raise ValueError(f"mode {self.mode!r}, ranges {self.ranges!r}; expected of {MODES}, {RANGES}")

    @property
    def needs_images(self) -> bool:
        """Whether it takes calibration images."""
        return self.mode == "static" or bool(self.products or set(self.changes) - {"fuse-attention"})

    def floats(self, names: Iterable[str]) -> list[str]:
        """Those of the node names that stay float."""
        return [name for name in names if any(re.search(pattern, name) for pattern in self.keep_float)]


#: Queries x keys of every block of Hiera; softmax x values.
SCORES, MIXTURES = r"^/blocks\.\d+/MatMul$", r"^/blocks\.\d+/MatMul_1$"
_PLACE = "the prompt's place: its sines tell neighbouring pixels apart"
_PROMPT = {r"^/MatMul$": _PLACE}
#: Where an image's levels are made even, the detector's bins become pixels, its scores are made, its boxes are voted.
_ENDS = {
    r"^/(?!detector/)": "sums over an image, and what they make of its pixels; overlaps and votes of boxes",
    r"/heads/(?!.*(/stem/|_convs/))": "box regression turns bins into pixels, and class scores are thresholds",
}

_DETECTOR = Recipe(
    mode="static",
    # What runs as int8 between convolutions without going through float. Sigmoid, Softmax and the rest stay float.
    operators=("Conv", "Add", "Concat", "MaxPool", "Relu"),
    keep_float=_ENDS,
)
_ENCODER = Recipe(mode="dynamic", operators=("MatMul",), products=(SCORES, MIXTURES))
_DECODER = Recipe(mode="static", operators=("MatMul",), keep_float=_PROMPT, float_outputs=True)
# One object a run, so dynamic ranges span nothing but it; needs no sequences to calibrate on.
_MEMORY = Recipe(mode="dynamic", operators=("MatMul",))

#: {precision: {graph: recipe}}
RECIPES: dict[str, dict[str, Recipe]] = {
    "int8": {
        "detector": _DETECTOR,
        "image_encoder": _ENCODER,
        "mask_decoder": _DECODER,
        "memory_attention": _MEMORY,
        "memory_encoder": _MEMORY,
    },
    # 4-bit weights where they are linear layers: a smaller download, as slow as fp32
    "int4": {
        "detector": _DETECTOR,
        "image_encoder": Recipe("weights4", ("MatMul",)),
        "mask_decoder": Recipe("weights4", ("MatMul",), _PROMPT),
        "memory_attention": Recipe("weights4", ("MatMul",)),
        "memory_encoder": Recipe("weights4", ("MatMul",)),
    },
    # for graphics cards, which compute in half precision
    "fp16": {
        "detector": Recipe("half", ("Conv",), _ENDS),
        "image_encoder": Recipe("half"),
        "mask_decoder": Recipe("half", keep_float={r"^/(Add|Div|Mul|Sub|MatMul|Mul_1|Sin|Cos)$": _PLACE}),
        "memory_attention": Recipe("half"),
        "memory_encoder": Recipe("half"),
    },
}
#: For networks that come without images to calibrate on: what needs none, the rest stays float.
UNCALIBRATED = {
    "image_encoder": replace(_ENCODER, products=()),
    "mask_decoder": Recipe("float"),
    "memory_attention": _MEMORY,
    "memory_encoder": _MEMORY,
}
