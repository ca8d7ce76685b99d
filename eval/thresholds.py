"""Pick each class's least score on val: the one whose boxes cover the truth best and find least in empty images.

A rule is a threshold, and a share of the surest score of the class in the image. Its value is the mean IoU of the union
of found boxes with the union of true boxes over images with truth, less half of the boxes found an image without.
Images are those of the class's own source.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from eval.figures import read_sources
from pipeline import AutoSegmenter
from pipeline.datasets import Source

_GRID = 128
_THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 15))
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


def best_rule(
    images: list[tuple[np.ndarray, np.ndarray, np.ndarray, int, int]],
    thresholds: tuple[float, ...] = _THRESHOLDS,
    shares: tuple[float, ...] = _SHARES,
) -> tuple[float, float, float]:
    """(threshold, share of the best, value) for images as (found boxes (N, 4), scores (N,), true boxes (M, 4), width,
    height)."""
    values = {}
    for threshold, share in itertools.product(thresholds, shares):
        overlaps, false = [], []
        for found, scores, true, width, height in images:
            kept = found[scores >= max(threshold, share * scores.max(initial=0))]
            if not len(true):
                false.append(len(kept))
                continue
            ours, theirs = covered(kept, width, height), covered(true, width, height)
            overlaps.append((ours & theirs).sum() / max(1, (ours | theirs).sum()))
        values[threshold, share] = float(np.mean(overlaps or [0]) - _FALSE_POSITIVE * np.mean(false or [0]))
    best = max(values, key=values.get)
    return *best, values[best]


def look(segment: AutoSegmenter, source: Source, split: str, every: int) -> list[tuple]:
    """What the detector finds of the source's class, in its images of a split, down to the lowest threshold."""
    class_ids = [number for number, name in segment.class_names.items() if name == source.classes[0]]
    images = []
    samples = [sample for sample in source.samples if sample.split == split][::every]
    for sample in tqdm(samples, desc=source.name, unit="image", disable=None):
        pixels, regions = sample.load()
        found = segment.detector.detect(pixels, min_score=_THRESHOLDS[0], class_ids=class_ids)
        true = np.array([region.box for region in regions], np.float32).reshape(-1, 4)
        images.append((found.boxes, found.scores, true, pixels.shape[1], pixels.shape[0]))
    return images


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder that holds the data sets")
    parser.add_argument("--weights", default="embedded", help="'embedded', a release folder, or user/repo@revision")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every N-th image, for a quick look")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")


def run(arguments: argparse.Namespace) -> int:
    segment = AutoSegmenter.from_release(arguments.weights, arguments.precision, arguments.threads)
    thresholds, shares = {}, {}
    for source in read_sources(arguments.data, tuple(segment.class_names.values())):
        label = source.classes[0]
        thresholds[label], shares[label], value = best_rule(look(segment, source, "val", arguments.every))
        print(f"{label:16} {thresholds[label]:.2f}  of the best {shares[label]:.2f}  value {value:.3f}", flush=True)
    print(json.dumps({"class_thresholds": thresholds, "class_best_shares": shares}))
    return 0
