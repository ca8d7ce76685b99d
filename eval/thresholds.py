"""Pick each class's least score on val: the one whose boxes cover the truth best and find least in empty images.

A rule is a threshold, and a share of the surest score of the class in the image. Its value is the mean IoU of the union
of found boxes with the union of true boxes over images with truth, less half of the boxes found in an image without,
less half of those found in an image of another class's source (or another share, `--false-positive`). Boxes that the
release itself drops, since the image is of another kind (`pipeline.scope`), count for nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from eval.measure import read_sources
from pipeline import AutoSegmenter
from pipeline.datasets import Source
from pipeline.results import Detections

_GRID = 128
#: From 0.1: what is less sure than that is mostly wrong, and no source here has the empty images that would tell.
_THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(2, 15))
_SHARES = (0.0, 0.5, 0.7, 0.8, 0.9, 1.0)
_FALSE_POSITIVE = 0.5


def covered(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """bool (128, 128): the cells of an image whose centre lies in any of the boxes (N, 4), xyxy in pixels."""
    columns = (np.arange(_GRID) + 0.5) / _GRID * width
    rows = (np.arange(_GRID) + 0.5) / _GRID * height
    grid = np.zeros((_GRID, _GRID), bool)
    for left, top, right, bottom in boxes:
        grid |= ((rows >= top) & (rows < bottom))[:, None] & ((columns >= left) & (columns < right))
    return grid


@dataclass(frozen=True)
class Look:
    """What the detector found of all classes in one image, down to the lowest threshold, and its true boxes."""

    found: Detections
    true: np.ndarray
    width: int
    height: int

    def of(self, class_id: int) -> Detections:
        return self.found[self.found.class_ids == class_id]


def best_rule(
    class_id: int,
    own: list[Look],
    others: list[Look],
    thresholds: tuple[float, ...] = _THRESHOLDS,
    shares: tuple[float, ...] = _SHARES,
    false_positive: float = _FALSE_POSITIVE,
) -> tuple[float, float, float]:
    """(threshold, share of the best, value) for a class, from images of its own source and of others."""
    values = {}
    for threshold, share in itertools.product(thresholds, shares):

        def kept(look: Look, threshold=threshold, share=share) -> np.ndarray:
            found = look.of(class_id)
            return found.boxes[found.scores >= max(threshold, share * found.scores.max(initial=0))]

        overlaps = [overlap(look, kept(look)) for look in own if len(look.true)]
        false = [[len(kept(look)) for look in looks] for looks in ([x for x in own if not len(x.true)], others)]
        cost = sum(float(np.mean(counts or [0])) for counts in false)
        values[threshold, share] = float(np.mean(overlaps or [0])) - false_positive * cost
    best = max(values, key=values.get)
    return *best, values[best]


def overlap(look: Look, boxes: np.ndarray) -> float:
    """IoU of the union of `boxes` with the union of the true ones."""
    ours, theirs = covered(boxes, look.width, look.height), covered(look.true, look.width, look.height)
    return (ours & theirs).sum() / max(1, (ours | theirs).sum())


def of_this_kind(segment: AutoSegmenter, pixels: np.ndarray, found: Detections) -> Detections:
    """Without classes that the release drops here, as it sees the image about the surest box of each."""
    if segment.scope is None:
        return found
    for class_id in np.unique(found.class_ids):
        surest = found.boxes[found.class_ids == class_id][:1]
        distances = segment.scope.distances(segment.segmenter.embed(pixels, surest))
        if class_id in segment.scope.other_kinds(distances):
            found = found[found.class_ids != class_id]
    return found


def look_at(segment: AutoSegmenter, source: Source, split: str, every: int) -> list[Look]:
    looks = []
    samples = [sample for sample in source.samples if sample.split == split][::every]
    for sample in tqdm(samples, desc=source.name, unit="image", disable=None):
        pixels, regions = sample.load()
        found = of_this_kind(segment, pixels, segment.detector.detect(pixels, min_score=_THRESHOLDS[0]))
        true = np.array([region.box for region in regions], np.float32).reshape(-1, 4)
        looks.append(Look(found, true, pixels.shape[1], pixels.shape[0]))
    return looks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder that holds the data sets")
    parser.add_argument("--weights", default="embedded", help="'embedded', a release folder, or user/repo@revision")
    parser.add_argument("--precision", default="int8")
    text = "what a false box costs, in IoU of an image (default %(default)s)"
    parser.add_argument("--false-positive", type=float, default=_FALSE_POSITIVE, metavar="COST", help=text)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every N-th image, for a quick look")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")


def run(arguments: argparse.Namespace) -> int:
    segment = AutoSegmenter.from_release(arguments.weights, arguments.precision, arguments.threads)
    ids = {name: number for number, name in segment.class_names.items()}
    sources = read_sources(arguments.data, tuple(ids))
    looks = {source.classes[0]: look_at(segment, source, "val", arguments.every) for source in sources}
    thresholds, shares = {}, {}
    for label, own in looks.items():
        others = [look for other, of in looks.items() if other != label for look in of]
        thresholds[label], shares[label], value = best_rule(
            ids[label], own, others, false_positive=arguments.false_positive
        )
        print(f"{label:16} {thresholds[label]:.2f}  of the best {shares[label]:.2f}  value {value:.3f}", flush=True)
    print(json.dumps({"class_thresholds": thresholds, "class_best_shares": shares}))
    return 0
