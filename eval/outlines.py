"""Choose on val what shapes each class's outlines: `shapes`, `box_ellipse` and `logit_offset` in config.json.

The release's own boxes that overlap a true one by half, and the true boxes, prompt the segmenter once; then every value
is tried on those logits. What counts is Dice on the segmenter's input, of which the own boxes' counts twice, since most
images are prompted by nobody. With each outline, and with none, first the ellipse's weight is chosen, then the offset;
the best of these is taken. What gains less than 0.001 is left out.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path

import numpy as np
from tqdm import tqdm

from eval.measure import read_sources
from eval.metrics import dice
from hub.checks import SHAPES
from pipeline import AutoSegmenter
from pipeline.datasets import Region, Source
from pipeline.geometry import Resize, box_iou
from pipeline.shapes import Shapes

_RIGHT = 0.5
_LEAST_GAIN = 0.001
#: Of the own boxes' Dice, and of the true ones'.
_WEIGHTS = (2, 1)
_ELLIPSES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_OFFSETS = tuple(0.25 * step for step in range(-6, 7) if step)
#: Shapes, and the Dice that they reach.
Tried = tuple[Shapes, float]


@dataclass
class Asked:
    """What the decoder answered to boxes of one class.

    Attributes
    ----------
    logits : N of float32 (G, G)
    boxes : N of float32 (4,), xyxy in cells
    truths : N of bool (S, S), on the segmenter's input
    """

    logits: list[np.ndarray] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    truths: list[np.ndarray] = field(default_factory=list)

    def dice(self, label: str, shapes: Shapes) -> float:
        """Mean over the boxes, 0..1; 0 where there are none."""
        if not self.logits:
            return 0.0
        side = len(self.truths[0])
        onto = Resize.plan(side, side, side, "squash")
        shaped = shapes.of(np.stack(self.logits), [label] * len(self.logits), np.stack(self.boxes))
        return float(np.mean([dice(onto.mask_back(of), truth) for of, truth in zip(shaped, self.truths, strict=True)]))


def choose(label: str, own: Asked, true: Asked) -> tuple[Shapes, float, float]:
    """What serves a class best, and the weighted mean Dice over own and true boxes with it and without."""

    def value(shapes: Shapes) -> float:
        return float(np.average([asked.dice(label, shapes) for asked in (own, true)], weights=_WEIGHTS))

    def tried(shapes: Shapes, part: str, values: Iterable[str | float]) -> list[Tried]:
        each = [replace(shapes, **{part: {label: one}}) for one in values]
        return [(shapes, value(shapes)) for shapes in each]

    bare = Shapes(), value(Shapes())
    found = []
    for outlined in (bare, *tried(Shapes(), "outlines", SHAPES)):
        leaning = _best([outlined, *tried(outlined[0], "ellipses", _ELLIPSES)])
        found.append(_best([leaning, *tried(leaning[0], "offsets", _OFFSETS)]))
    return *_best(found), bare[1]


def _best(tried: list[Tried]) -> Tried:
    """The one that reaches most; the first, which is the plainest, where it gains too little."""
    best = max(tried, key=itemgetter(1))
    return best if best[1] - tried[0][1] >= _LEAST_GAIN else tried[0]


def ask(segment: AutoSegmenter, label: str, images: Iterable[tuple[np.ndarray, list[Region]]]) -> tuple[Asked, Asked]:
    """Answers to the release's own boxes that are right, and to the true ones; images are uint8 (H, W, 3)."""
    [class_id] = segment.class_ids([label])
    own, true = Asked(), Asked()
    for pixels, regions in images:
        regions = [region for region in regions if region.mask is not None]
        if not regions:
            continue
        true_boxes = np.stack([region.box for region in regions])
        found = segment.detector.detect(pixels, class_ids=[class_id]).boxes
        overlaps = box_iou(found, true_boxes)
        right = np.flatnonzero(overlaps.max(1) >= _RIGHT) if len(found) else np.zeros(0, int)
        _add(own, segment, pixels, found[right], [regions[place] for place in overlaps[right].argmax(1)])
        _add(true, segment, pixels, true_boxes, regions)
    return own, true


def _add(asked: Asked, segment: AutoSegmenter, pixels: np.ndarray, boxes: np.ndarray, regions: list[Region]) -> None:
    if not len(boxes):
        return
    embedding = segment.segmenter.embed(pixels, boxes)
    logits, _, _ = segment.segmenter.decode(embedding, boxes=boxes)
    asked.logits.extend(logits)
    asked.boxes.extend(embedding.resize.boxes_in_cells(boxes, logits.shape[-1]))
    asked.truths.extend(embedding.resize.mask(region.mask) for region in regions)


def _images(source: Source, count: int) -> Iterable[tuple[np.ndarray, list[Region]]]:
    samples = [sample for sample in source.samples if sample.split == "val"]
    samples = samples[:: max(1, math.ceil(len(samples) / max(1, count)))]
    return (sample.load() for sample in tqdm(samples, desc=source.name, unit="image", disable=None))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder that holds the data sets")
    parser.add_argument("--weights", default="embedded", help="'embedded', a release folder, or user/repo@revision")
    parser.add_argument("--precision", default="int8")
    text = "val images a source at most, evenly from all (default: %(default)s)"
    parser.add_argument("--images", type=int, default=200, metavar="N", help=text)
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")


def run(arguments: argparse.Namespace) -> int:
    segment = AutoSegmenter.from_release(arguments.weights, arguments.precision, arguments.threads)
    config: dict[str, dict] = {"shapes": {}, "box_ellipse": {}, "logit_offset": {}}
    for source in read_sources(arguments.data, tuple(segment.class_names.values())):
        label = source.classes[0]
        chosen, after, before = choose(label, *ask(segment, label, _images(source, arguments.images)))
        for part, values in zip(config.values(), (chosen.outlines, chosen.ellipses, chosen.offsets), strict=True):
            part.update(values)
        print(f"{label:16} Dice {before:.4f} -> {after:.4f}", flush=True)
    print(json.dumps(config))
    return 0
