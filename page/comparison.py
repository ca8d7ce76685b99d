"""Two precisions on the same image: how much their masks agree, and what each costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pipeline import AutoSegmenter
from pipeline.geometry import union_of
from pipeline.results import Segmentation
from pipeline.scan import Scan

#: Runs of each network; the faster one counts, because the first may include what onnxruntime does only once.
_RUNS = 2


def compare(
    path: Path,
    segmenters: tuple[AutoSegmenter, AutoSegmenter],
    run: Callable[[AutoSegmenter, Path], tuple[Scan, Segmentation]],
) -> tuple[Scan, tuple[Segmentation, Segmentation], dict]:
    """Segment `path` with both and compare.

    Returns
    -------
    The scan, both answers, and
    `{"precisions": [a, b], "dice": {class: 0..1}, "mean_dice": 0..1 or None, "speed_ratio": b's time / a's,
    "weights_bytes": [a, b], "timings_ms": [a, b]}`. A class that one of them found alone has Dice 0; where neither
    found anything there is no Dice. Times are of whole runs: nothing that was computed before is used.
    """
    answers = [_faster(path, segmenter, run) for segmenter in segmenters]
    scan, (first, second) = answers[0][0], (answer for _, answer in answers)
    dice = dice_by_class(first, second)
    times = [asdict(answer.timings) for answer in (first, second)]
    return scan, (first, second), {
        "precisions": [first.precision, second.precision],
        "dice": {name: round(value, 4) for name, value in dice.items()},
        "mean_dice": round(float(np.mean(list(dice.values()))), 4) if dice else None,
        "speed_ratio": round(times[1]["total"] / times[0]["total"], 2),
        "weights_bytes": [segmenter.release.manifest["precisions"][segmenter.precision]["bytes"]
                          for segmenter in segmenters],
        "timings_ms": [{stage: round(ms, 2) for stage, ms in stages.items()} for stages in times],
    }  # fmt: skip


def dice_by_class(first: Segmentation, second: Segmentation) -> dict[str, float]:
    """Dice of the union of each class' masks, for every class that either answer has."""
    dice = {}
    for label in sorted({*first.labels, *second.labels}):
        a, b = _union(first, label), _union(second, label)
        dice[label] = 2 * int((a & b).sum()) / max(1, int(a.sum()) + int(b.sum()))
    return dice


def _union(segmentation: Segmentation, label: str) -> np.ndarray:
    own = (segmentation.mask(index) for index, name in enumerate(segmentation.labels) if name == label)
    return union_of(own, segmentation.size)


def _faster(path: Path, segmenter: AutoSegmenter, run) -> tuple[Scan, Segmentation]:
    answers = []
    for _ in range(_RUNS):
        segmenter.forget_embeddings()
        answers.append(run(segmenter, path))
    return min(answers, key=lambda answer: answer[1].timings.total)
