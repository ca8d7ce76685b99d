"""Ways to quantize one graph, to be compared: the shipped recipe, without a group of nodes, and what else was tried."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.training.recipes import MIXTURES, RECIPES, SCORES, Recipe


@dataclass(frozen=True)
class Variant:
    """A recipe for one graph; the release's other graphs stay fp32. `images` calibrate it."""

    graph: str
    title: str
    recipe: Recipe
    images: int = 32


#: Groups of nodes that are left out one at a time: name -> regular expression of node names.
GROUPS = {
    "detector": {
        "stem": r"/backbone/stem",
        "stage 1": r"/backbone/stage1",
        "stage 2": r"/backbone/stage2",
        "stage 3": r"/backbone/stage3",
        "stage 4": r"/backbone/stage4",
        "context module": r"/backbone/context",
        "neck, upwards": r"/neck/neck[12]",
        "neck, downwards": r"/neck/neck[34]",
        "heads": r"/heads/",
    },
    "image_encoder": {
        "queries": r"/query/",
        "keys": r"/key/",
        "values": r"/value/",
        "attention outputs": r"/out/",
        "MLPs, first layers": r"/mlp/layers\.0/",
        "MLPs, second layers": r"/mlp/layers\.1/",
        "where channels change": r"/shortcut/",
        "neck": r"^/(to_|from_)",
        "stage 1 (block 0)": r"^/blocks\.0/",
        "stage 2 (blocks 1, 2)": r"^/blocks\.[12]/",
        "stage 3 (blocks 3 to 9)": r"^/blocks\.[3-9]/",
        "stage 4 (blocks 10, 11)": r"^/blocks\.1[01]/",
    },
}


def _without(recipe: Recipe, pattern: str) -> Recipe:
    return replace(recipe, keep_float=recipe.keep_float | {pattern: "left out"})


def _variants() -> dict[str, Variant]:
    shipped = RECIPES["int8"]
    detector, decoder = shipped["detector"], shipped["mask_decoder"]
    encoder = replace(shipped["image_encoder"], products=())
    linear = Recipe("static", ("MatMul",), float_outputs=True)
    weights4 = Recipe("weights4", ("MatMul",))
    whole = replace(detector, keep_float={r"/heads/(Softmax|Sigmoid)": "no int8 kernel"})
    found = {
        "detector": Variant("detector", "shipped", detector),
        "encoder": Variant("image_encoder", "dynamic, linear layers", encoder),
        "detector/8": Variant("detector", "8 calibration images", detector, 8),
        "detector/128": Variant("detector", "128 calibration images", detector, 128),
        "detector/trimmed": Variant("detector", "trimmed ranges, 32 images", replace(detector, ranges="trimmed")),
        "detector/trimmed-128": Variant(
            "detector", "trimmed ranges, 128 images", replace(detector, ranges="trimmed"), 128
        ),
        "detector/percentile": Variant("detector", "ranges: percentile 99.99", replace(detector, ranges="percentile")),
        "detector/entropy": Variant("detector", "ranges: entropy, 8 images", replace(detector, ranges="entropy"), 8),
        "detector/ends": Variant("detector", "with box regression and class scores", whole),
        "encoder/static": Variant("image_encoder", "static inputs, min-max", linear),
        "encoder/static-8": Variant("image_encoder", "static inputs, min-max, 8 images", linear, 8),
        "encoder/static-migrated": Variant(
            "image_encoder", "static inputs, scales migrated", replace(linear, changes=("migrate-scales",))
        ),
        "encoder/static-products": Variant(
            "image_encoder",
            "static inputs, both attention products, too",
            replace(linear, products=(SCORES, MIXTURES)),
        ),
        "encoder/migrated": Variant("image_encoder", "scales migrated", replace(encoder, changes=("migrate-scales",))),
        "encoder/biases": Variant("image_encoder", "biases corrected", replace(encoder, changes=("correct-biases",))),
        "encoder/fused": Variant("image_encoder", "attention fused", replace(encoder, changes=("fuse-attention",))),
        "encoder/modes": Variant(
            "image_encoder", "modes integrated, attention float", replace(encoder, changes=("integrate-modes",))
        ),
        "encoder/scores": Variant("image_encoder", "queries x keys, too", replace(encoder, products=(SCORES,)), 8),
        "encoder/scores-modes": Variant(
            "image_encoder",
            "queries x keys, too, modes integrated",
            replace(encoder, products=(SCORES,), changes=("integrate-modes",)),
            8,
        ),
        "encoder/products": Variant(
            "image_encoder", "both attention products, too", replace(encoder, products=(SCORES, MIXTURES))
        ),
        "encoder/window-products": Variant(
            "image_encoder",
            "both in windows, queries x keys of the whole image",
            replace(encoder, products=(SCORES, r"^/blocks\.(?!(5|7|9)/)\d+/MatMul_1$")),
            8,
        ),
        "encoder/int4": Variant("image_encoder", "4-bit weights", weights4),
        "decoder/dynamic": Variant("mask_decoder", "dynamic", replace(decoder, mode="dynamic")),
        "decoder/static": Variant("mask_decoder", "static inputs", decoder),
        "decoder/int4": Variant("mask_decoder", "4-bit weights", replace(decoder, mode="weights4")),
    }
    for graph, short, recipe in (("detector", "detector", detector), ("image_encoder", "encoder", encoder)):
        for group, pattern in GROUPS[graph].items():
            found[f"{short}/without {group}"] = Variant(graph, f"without {group}", _without(recipe, pattern))
    return found


VARIANTS = _variants()
