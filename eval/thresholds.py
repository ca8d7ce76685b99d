"""Pick each class's least score on val: the one whose boxes cover the truth best and find least in empty images.

A threshold's value is the mean IoU of the union of found boxes with the union of true boxes over images with truth,
less half of the boxes found an image without. Images are those of the class's own source.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from eval.figures import read_sources
from pipeline import AutoSegmenter
from pipeline.datasets import Source

_GRID = 128
_CANDIDATES = np.round(np.arange(0.05, 0.75, 0.05), 2)
_FALSE_POSITIVE = 0.5


def covered(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """bool (128, 128): the cells of an image whose centre lies in any of the boxes (N, 4), xyxy in pixels."""
    columns = (np.arange(_GRID) + 0.5) / _GRID * width
    rows = (np.arange(_GRID) + 0.5) / _GRID * height
    grid = np.zeros((_GRID, _GRID), bool)
    for left, top, right, bottom in boxes:
        grid |= ((rows >= top) & (rows < bottom))[:, None] & ((columns >= left) & (columns < right))
    return grid


def best_threshold(
    images: list[tuple[np.ndarray, np.ndarray, np.ndarray, int, int]], candidates: np.ndarray = _CANDIDATES
) -> tuple[float, float]:
    """(threshold, its value) of images as (found boxes (N, 4), scores (N,), true boxes (M, 4), width, height)."""
    values = []
    for threshold in candidates:
        overlaps, false = [], []
        for found, scores, true, width, height in images:
            kept = found[scores >= threshold]
            if not len(true):
                false.append(len(kept))
                continue
            ours, theirs = covered(kept, width, height), covered(true, width, height)
            overlaps.append((ours & theirs).sum() / max(1, (ours | theirs).sum()))
        values.append(np.mean(overlaps or [0]) - _FALSE_POSITIVE * np.mean(false or [0]))
    best = int(np.argmax(values))
    return float(candidates[best]), float(values[best])


def look(segment: AutoSegmenter, source: Source, split: str, every: int) -> list[tuple]:
    """What the detector finds of the source's class, in its images of a split, down to the lowest candidate."""
    class_ids = [number for number, name in segment.class_names.items() if name == source.classes[0]]
    images = []
    samples = [sample for sample in source.samples if sample.split == split][::every]
    for sample in tqdm(samples, desc=source.name, unit="image", disable=None):
        pixels, regions = sample.load()
        found = segment.detector.detect(pixels, min_score=float(_CANDIDATES[0]), class_ids=class_ids)
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
    thresholds = {}
    for source in read_sources(arguments.data, tuple(segment.class_names.values())):
        threshold, value = best_threshold(look(segment, source, "val", arguments.every))
        thresholds[source.classes[0]] = threshold
        print(f"{source.classes[0]:16} {threshold:.2f}  value {value:.3f}", flush=True)
    print(json.dumps({"class_thresholds": thresholds}))
    return 0
