"""Pick each class's least score on val: what covers the truth best, with few enough boxes in empty images.

A rule is a threshold, and a share of the surest score of the class in the image. Its value is the mean IoU of the union
of found boxes with the union of true boxes over images with truth, less what its false boxes cost: those in an image
without any truth, and those in an image with truth of another class, each the mean over sources. Each class starts with
its rule for the dearest false box; then, again and again, the class that gains most IoU a false box goes to its next
cheaper one, as long as an empty image holds at most `--false-boxes`, the mean over the sources that have such images.
Boxes that the release drops, since the image is of another kind (`pipeline.scope`), count for nothing.

Scores are not known to the last digit: another precision moves them, and so does another image of the same patient. So
each image counts several times, with scores that are off by a few hundredths; a rule that a single score's next digit
would turn is not chosen for it.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
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
#: Of a false box, in IoU of an image.
_COSTS = tuple(round(0.02 * step, 2) for step in range(5, 151))
_FALSE_BOXES = 0.1
#: How far a score may be off (standard deviation), and how often each image counts, the first time as it is.
_SPREAD, _COPIES = 0.03, 6
_NOTHING = Detections.none()


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
        return self._by_class.get(class_id, _NOTHING)

    @cached_property
    def _by_class(self) -> dict[int, Detections]:
        return {int(class_id): self.found[self.found.class_ids == class_id] for class_id in set(self.found.class_ids)}


@dataclass(frozen=True)
class Rule:
    """A least score of a class, and what it gives.

    Attributes
    ----------
    threshold : 0..1
    share : of the surest score of the class in the image, 0..1
    overlap : mean IoU of found with true boxes, over images with truth
    false_boxes : boxes an image without truth, plus boxes an image with truth of another class, means over sources
    """

    threshold: float
    share: float
    overlap: float = 0.0
    false_boxes: float = 0.0

    def keeps(self, found: Detections) -> np.ndarray:
        """bool (N,): which boxes of one class reach the least score."""
        return found.scores >= max(self.threshold, self.share * found.scores.max(initial=0))

    def count(self, found: Detections) -> int:
        """How many boxes of one class reach the least score."""
        return int(self.keeps(found).sum())


def shaken(looks: list[Look], seed: int = 0) -> list[Look]:
    """Each image several times: as it is, and with scores that are a little off."""
    rng, copies = np.random.default_rng(seed), list(looks)
    for look in looks * (_COPIES - 1):
        scores = (look.found.scores + rng.normal(0, _SPREAD, len(look.found.scores))).clip(0, 1).astype(np.float32)
        copies.append(replace(look, found=replace(look.found, scores=scores)))
    return copies


def rules_of(
    class_id: int,
    looks: dict[int, list[Look]],
    thresholds: tuple[float, ...] = _THRESHOLDS,
    shares: tuple[float, ...] = _SHARES,
) -> list[Rule]:
    """Every rule for a class, tried on the images of its own source and of others; `looks` by their class's id."""
    right = [_Right(look, look.of(class_id)) for look in _labelled(looks[class_id])]
    empty = [_empty(of) for of in looks.values()]
    strange = [_labelled(of) for other, of in looks.items() if other != class_id]
    wrong = [[[look.of(class_id) for look in of] for of in some if of] for some in (empty, strange)]
    rules = []
    for rule in itertools.starmap(Rule, itertools.product(thresholds, shares)):
        overlaps = [image.overlap(rule) for image in right]
        means = [[np.mean([rule.count(found) for found in of]) for of in some] for some in wrong]
        cost = sum(float(np.mean(some or [0])) for some in means)
        rules.append(replace(rule, overlap=float(np.mean(overlaps or [0])), false_boxes=cost))
    return rules


@dataclass(frozen=True)
class _Right:
    """An image with truth: what its boxes of a class cover, computed once for all rules that keep the same ones."""

    look: Look
    found: Detections
    known: dict[bytes, float] = field(default_factory=dict)

    def overlap(self, rule: Rule) -> float:
        kept = rule.keeps(self.found)
        if (key := kept.tobytes()) not in self.known:
            self.known[key] = overlap(self.look, self.found.boxes[kept])
        return self.known[key]


def best_rule(rules: list[Rule], cost: float) -> Rule:
    """The rule of most value where a false box costs `cost`; of equal ones the first."""
    return max(rules, key=lambda rule: rule.overlap - cost * rule.false_boxes)


def false_boxes(looks: dict[int, list[Look]], rules: dict[int, Rule]) -> float:
    """Boxes of any class an image without truth, the mean over the sources (by their class's id) that have such."""
    means = [
        np.mean([sum(rule.count(look.of(class_id)) for class_id, rule in rules.items()) for look in empty])
        for empty in map(_empty, looks.values())
        if empty
    ]
    return float(np.mean(means or [0]))


def choose(looks: dict[int, list[Look]], most: float) -> dict[int, Rule]:
    """A rule for each class, with which at most `most` boxes are in an empty image where that can be. `looks` are those
    of a class's source, by the class's id."""
    chosen, cheaper = {}, {}
    for class_id in looks:
        rules = rules_of(class_id, looks)
        dearest_first = (best_rule(rules, cost) for cost in reversed(_COSTS))
        chosen[class_id], *cheaper[class_id] = dict.fromkeys(dearest_first)
    while True:
        steps = {
            class_id: rules[0]
            for class_id, rules in cheaper.items()
            if rules and false_boxes(looks, chosen | {class_id: rules[0]}) <= most
        }
        if not steps:
            return chosen
        best = max(steps, key=lambda class_id: _gain(chosen[class_id], steps[class_id]))
        chosen[best] = cheaper[best].pop(0)


def _gain(rule: Rule, cheaper: Rule) -> float:
    """What the cheaper rule of a class adds, in IoU a false box."""
    return (cheaper.overlap - rule.overlap) / (cheaper.false_boxes - rule.false_boxes)


def _empty(looks: list[Look]) -> list[Look]:
    return [look for look in looks if not len(look.true)]


def _labelled(looks: list[Look]) -> list[Look]:
    return [look for look in looks if len(look.true)]


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
    text = "boxes that an image without truth may hold on average (default %(default)s)"
    parser.add_argument("--false-boxes", type=float, default=_FALSE_BOXES, metavar="MOST", help=text)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every N-th image, for a quick look")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")


def run(arguments: argparse.Namespace) -> int:
    segment = AutoSegmenter.from_release(arguments.weights, arguments.precision, arguments.threads)
    ids = {name: number for number, name in segment.class_names.items()}
    sources = read_sources(arguments.data, tuple(ids))
    looks = {ids[source.classes[0]]: shaken(look_at(segment, source, "val", arguments.every)) for source in sources}
    rules = choose(looks, arguments.false_boxes)
    for class_id, rule in rules.items():
        name, reached = segment.class_names[class_id], f"IoU {rule.overlap:.3f}  false boxes {rule.false_boxes:.3f}"
        print(f"{name:16} {rule.threshold:.2f}  of the best {rule.share:.2f}  {reached}")
    print(f"an empty image holds {false_boxes(looks, rules):.3f} false boxes")
    names = {segment.class_names[class_id]: rule for class_id, rule in rules.items()}
    thresholds = {name: rule.threshold for name, rule in names.items()}
    shares = {name: rule.share for name, rule in names.items()}
    print(json.dumps({"class_thresholds": thresholds, "class_best_shares": shares}))
    return 0
