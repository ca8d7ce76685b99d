"""95 % intervals by patient: images of one patient are alike, so patients are drawn, not images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

_DRAWS = 2000

#: (patient, value) of each image of a source.
Values = Sequence[tuple[str, float]]


def macro_mean(sources: Mapping[str, Values]) -> float:
    """The mean over sources of the mean over a source's images."""
    return float(np.mean([np.mean([value for _, value in values]) for values in sources.values()]))


def macro_interval(sources: Mapping[str, Values], seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap (Efron) of `macro_mean`: each source's patients are drawn with replacement."""
    rng = np.random.default_rng(seed)
    means = [_draws(values, rng) for _, values in sorted(sources.items())]
    low, high = np.percentile(np.mean(means, axis=0), [2.5, 97.5])
    return float(low), float(high)


def mean_with_interval(sources: Mapping[str, Values]) -> dict[str, float] | None:
    """`macro_mean` and the ends of its `macro_interval`, rounded, as results hold them; None without any source."""
    if not sources:
        return None
    low, high = macro_interval(sources)
    return {"mean": round(macro_mean(sources), 4), "low": round(low, 4), "high": round(high, 4)}


def _draws(values: Values, rng: np.random.Generator) -> np.ndarray:
    """float64 (draws,): the mean over images, of as many patients as there are, drawn with replacement."""
    patients = {patient: number for number, patient in enumerate(sorted({patient for patient, _ in values}))}
    sums, counts = np.zeros((2, len(patients)))
    for patient, value in values:
        sums[patients[patient]] += value
        counts[patients[patient]] += 1
    drawn = rng.integers(len(patients), size=(_DRAWS, len(patients)))
    return sums[drawn].sum(1) / counts[drawn].sum(1)
