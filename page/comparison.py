"""Two precisions on the same image: how much their masks agree, and what each costs."""

from __future__ import annotations

from dataclasses import asdict, replace
from html import escape

import numpy as np

from page.answers import Answers, Question
from page.words import Words
from pipeline.geometry import union_of
from pipeline.results import Segmentation
from pipeline.scan import Scan

#: Runs of each network; the faster one counts, because the first may include what onnxruntime does only once.
_RUNS = 2


def compare(answers: Answers, question: Question, other: str) -> tuple[Scan, tuple[Segmentation, Segmentation], dict]:
    """Answer the question in its own precision and in `other`, and compare.

    Returns
    -------
    The scan, both answers, and
    `{"precisions": [a, b], "dice": {class: 0..1}, "mean_dice": 0..1 or None, "speed_ratio": b's time / a's,
    "weights_bytes": [a, b], "timings_ms": [a, b]}`. A class that one of them found alone has Dice 0; where neither
    found anything there is no Dice. Times are of whole runs: nothing that was computed before is used.
    """
    both = [_faster(answers, replace(question, precision=each)) for each in (question.precision, other)]
    scan, (first, second) = both[0][0], (answer for _, answer in both)
    dice = dice_by_class(first, second)
    times = [asdict(answer.timings) for answer in (first, second)]
    return scan, (first, second), {
        "precisions": [first.precision, second.precision],
        "dice": {name: round(value, 4) for name, value in dice.items()},
        "mean_dice": round(float(np.mean(list(dice.values()))), 4) if dice else None,
        "speed_ratio": round(times[1]["total"] / times[0]["total"], 2),
        "weights_bytes": [answers.weights_bytes(answer.precision) for answer in (first, second)],
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


def comparison_html(facts: dict, words: Words) -> str:
    """A list of what `compare` tells."""
    first, second = (precision.upper() for precision in facts["precisions"])
    lines = [words("dice_of", name=words.label(name), value=f"{value:.3f}") for name, value in facts["dice"].items()]
    a, b = (f"{times['total']:.0f}" for times in facts["timings_ms"])
    ratio = f"{facts['speed_ratio']:.2f}"
    megabytes = [f"{size / 1e6:.0f}" for size in facts["weights_bytes"]]
    lines = [
        *(lines or [words("neither")]),
        words("takes_times", first=first, second=second, ratio=ratio, a=a, b=b),
        words("both_weights", first=first, second=second, a=megabytes[0], b=megabytes[1]),
    ]
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _faster(answers: Answers, question: Question) -> tuple[Scan, Segmentation]:
    return min((answers.ask_anew(question) for _ in range(_RUNS)), key=lambda answer: answer[1].timings.total)
