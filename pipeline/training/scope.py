"""`python -m pipeline scope`: teach a release what its images look like, so that others can be told apart.

The encoder's middle map is reduced to each channel's mean and spread over the image. Each class's train images make a
Gaussian there, and an image's distance to a class is its Mahalanobis distance (Lee et al. 2018, "A simple unified
framework for detecting out-of-distribution samples"), by the median distance of the class's own images. The limit is
what 96 % of val images stay below. An image that is three times as far from a class as from another is not of that
class's kind, and what the detector finds of it there does not count.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hub.files import replace_file
from hub.release import Release
from pipeline.errors import InputError
from pipeline.training.export import list_files, save_graph, store_half, trace
from pipeline.training.feature_cache import FeatureCache, Features

#: Share of val images that must count as known. A few patients of any set are odd: with 0.99 they alone would decide.
KNOWN = 0.96
#: On val, three times as far are 72 of 156 boxes of a class that the image is not of, and 2 of the 1,989 right ones;
#: four times as far 47 and none, twice as far 96 and 7.
RATIO = 3.0
#: Correlations are drawn this far towards none, variances towards all images': a class has fewer images than numbers.
_CORRELATION_SHRINKAGE, _VARIANCE_SHRINKAGE = 0.03, 0.03
#: A class with fewer labelled views makes no Gaussian of its own.
_LEAST_VIEWS = 20


class ScopeGraph(nn.Module):
    """high_res_1 float32 (1, 64, S/8, S/8) -> distances float32 (K,), one a kind."""

    def __init__(self, means: np.ndarray, whitenings: np.ndarray):
        super().__init__()
        self.register_buffer("means", torch.from_numpy(means.astype(np.float32)))
        self.register_buffer("whitenings", torch.from_numpy(whitenings.astype(np.float32)))

    def forward(self, high_res_1: Tensor) -> Tensor:
        mean = high_res_1.mean((2, 3))
        spread = ((high_res_1 - mean[..., None, None]) ** 2).mean((2, 3)).sqrt()
        offsets = torch.cat([mean, spread], dim=1) - self.means  # (K, 128)
        whitened = (offsets.unsqueeze(1) @ self.whitenings).squeeze(1)
        return (whitened**2).mean(1)


def describe(cache: FeatureCache) -> tuple[np.ndarray, np.ndarray]:
    """Of the views with regions: float64 (M, 128), each channel's mean and spread; class indices int64 (M,)."""
    labelled = np.flatnonzero(cache.counts[:, 1])
    rows = []
    for number in labelled:
        channels = cache.high_res_1[number].astype(np.float32).reshape(cache.high_res_1.shape[1], -1)
        rows.append(np.concatenate([channels.mean(1), channels.std(1)]))
    return np.array(rows, np.float64).reshape(len(labelled), -1), cache.regions[labelled, 0, 4].astype(np.int64)


def known_kinds(kinds: np.ndarray) -> np.ndarray:
    """Those of the class indices (M,) that have enough views, ascending."""
    found, counts = np.unique(kinds, return_counts=True)
    return found[counts >= _LEAST_VIEWS]


def fit_scope(rows: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means (K, C) and whitenings (K, C, C) of the `known_kinds` among rows (M, C).

    Raises InputError where no kind has enough rows.
    """
    means, whitenings = [], []
    overall = rows.var(0)
    for kind in known_kinds(kinds):
        own = rows[kinds == kind]
        mean = own.mean(0)
        variance = (1 - _VARIANCE_SHRINKAGE) * own.var(0) + _VARIANCE_SHRINKAGE * overall
        spread = np.sqrt(variance) + 1e-6
        scaled = (own - mean) / spread
        correlation = (1 - _CORRELATION_SHRINKAGE) * (scaled.T @ scaled) / len(own)
        values, vectors = np.linalg.eigh(correlation + _CORRELATION_SHRINKAGE * np.eye(rows.shape[1]))
        whitening = vectors / np.sqrt(values) / spread[:, None]
        typical = np.median((((own - mean) @ whitening) ** 2).mean(1))
        means.append(mean)
        whitenings.append(whitening / np.sqrt(typical))
    if not means:
        raise InputError("features", "no class with enough views", f"{_LEAST_VIEWS} labelled views of a class")
    return np.stack(means), np.stack(whitenings)


def distances(rows: np.ndarray, means: np.ndarray, whitenings: np.ndarray) -> np.ndarray:
    """Rows (M, C) -> distance to the nearest kind, float64 (M,)."""
    to_each = [(((rows - mean) @ whitening) ** 2).mean(1) for mean, whitening in zip(means, whitenings, strict=True)]
    return np.min(to_each, axis=0)


def add_scope(folder: Path, features: Features) -> tuple[Release, float]:
    """Write onnx/<precision>/scope.onnx and the limit into a release folder; returns the release and the limit."""
    release = Release.open(folder)
    rows, indices = describe(features.split("train"))
    fitted = fit_scope(rows, indices)
    limit = round(float(np.quantile(distances(describe(features.split("val"))[0], *fitted), KNOWN)), 3)
    size = release.config["segmenter"]["input_size"]
    graph = trace(ScopeGraph(*fitted), {"high_res_1": torch.randn(1, 64, size // 8, size // 8)}, ("distances",))
    kinds = [features.classes[index] for index in known_kinds(indices)]
    for precision in release.precisions:
        save_graph(store_half(graph), folder / "onnx" / precision / "scope.onnx")
    with replace_file(folder / "config.json") as file:
        settings = {"limit": limit, "kinds": kinds, "ratio": RATIO}
        file.write(json.dumps(release.config | {"scope": settings}, indent=2) + "\n")
    trained_on = release.manifest.get("trained_on", {})
    licenses = release.manifest.get("licenses")
    return list_files(folder, version=release.version, trained_on=trained_on, licenses=licenses), limit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--release", type=Path, required=True, metavar="DIR", help="release folder, int8 graphs included"
    )
    parser.add_argument("--features", type=Path, required=True, metavar="DIR", help="what `features` made with it")


def run(arguments: argparse.Namespace) -> int:
    release, limit = add_scope(arguments.release, Features.open(arguments.features))
    print(f"{release.folder}: images farther than {limit} from every known kind are out of scope")
    return 0
