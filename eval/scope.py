"""Can an image of nothing that the release knows be told apart from one that it knows? As areas under the ROC curve.

Known images are those of a split; strange ones are images of a folder, or by default those that packages ship:
photographs, drawings, microscopy, a hand, abdominal CT. With `--features` each class is also left out in turn: its
images are then strange, and the others known.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from eval.measure import read_sources
from hub.files import replace_file
from hub.revision import git_revision
from pipeline import AutoSegmenter, read_scan
from pipeline.errors import InputError

#: Packages that ship images, and where.
_PACKAGES = {
    "skimage": "data",
    "matplotlib": "mpl-data/sample_data",
    "sklearn": "datasets/images",
    "pydicom": "data/test_files",
    "scipy": "datasets",
}
_KINDS = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm"}
_SMALLEST = 64


def area_under_curve(strange: np.ndarray, known: np.ndarray) -> float:
    """Chance that a strange image's value is above a known one's; ties count half (Mann-Whitney)."""
    strange, known = np.asarray(strange)[:, None], np.asarray(known)[None]
    return float((strange > known).mean() + 0.5 * (strange == known).mean())


def package_images() -> list[Path]:
    """Images that installed packages ship."""
    found = []
    for package, below in _PACKAGES.items():
        spec = importlib.util.find_spec(package)
        if spec and spec.origin:
            found += images_in(Path(spec.origin).parent / below)
    return found


def images_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in _KINDS) if folder.is_dir() else []


def look_at(segment: AutoSegmenter, pixels: np.ndarray) -> tuple[float, float]:
    """(distance from what is known, score of the surest box) of an image."""
    embedding = segment.segmenter.embed(pixels)
    surest = segment.detector.propose(pixels).scores
    return float(segment.scope.distances(embedding).min()), float(surest.max(initial=0))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder that holds the data sets")
    parser.add_argument("--split", choices=("train", "val", "test"), default="test")
    parser.add_argument("--outside", type=Path, metavar="DIR", help="strange images (default: those of packages)")
    parser.add_argument("--features", type=Path, metavar="DIR", help="also leave out each class: what `features` wrote")
    parser.add_argument(
        "--images", type=int, default=20, metavar="N", help="known images a source (default %(default)s)"
    )
    parser.add_argument("--weights", default="embedded", help="'embedded', a release folder, or user/repo@revision")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON of the figures")


def run(arguments: argparse.Namespace) -> int:
    segment = AutoSegmenter.from_release(arguments.weights, arguments.precision, arguments.threads)
    if segment.scope is None:
        raise InputError(arguments.weights, "no scope", "a release that `python -m pipeline scope` was run on")
    strange = defaultdict(list)
    for path in tqdm(
        images_in(arguments.outside) if arguments.outside else package_images(), unit="image", disable=None
    ):
        try:
            pixels = read_scan(path).pixels
        except InputError:
            continue
        if min(pixels.shape[:2]) >= _SMALLEST:
            strange[path.parent.name].append((path.name, *look_at(segment, pixels)))
    if not strange:
        raise InputError(arguments.outside or "packages", "no image to be read", "PNG, JPEG, TIFF or DICOM files")
    known = {}
    for source in read_sources(arguments.data, tuple(segment.class_names.values())):
        samples = [sample for sample in source.samples if sample.split == arguments.split]
        places = np.unique(np.linspace(0, len(samples) - 1, min(arguments.images, len(samples))).astype(int))
        loaded = (samples[place].load()[0] for place in tqdm(places, desc=source.name, unit="image", disable=None))
        known[source.name] = [look_at(segment, pixels) for pixels in loaded]
    figures = summarise(strange, known, segment.scope.limit)
    figures |= {"split": arguments.split, "revision": git_revision()}
    if arguments.features:
        figures["class_left_out"] = leave_out(arguments.features)
    with replace_file(arguments.out) as file:
        json.dump(figures, file, indent=1)
    print(json.dumps({name: value for name, value in figures.items() if name != "strange"}, indent=1))
    return 0


def summarise(strange: dict[str, list], known: dict[str, list], limit: float) -> dict:
    far = np.array([distance for images in strange.values() for _, distance, _ in images])
    unsure = -np.array([score for images in strange.values() for *_, score in images])
    near = np.array([distance for images in known.values() for distance, _ in images])
    sure = -np.array([score for images in known.values() for _, score in images])
    return {
        "limit": limit,
        "strange_images": len(far),
        "known_images": len(near),
        "auroc_distance": round(area_under_curve(far, near), 4),
        "auroc_score": round(area_under_curve(unsure, sure), 4),
        "strange_flagged": round(float((far > limit).mean()), 4),
        "known_flagged": {
            source: round(float(np.mean([distance > limit for distance, _ in images])), 4)
            for source, images in known.items()
        },
        "strange": dict(strange),
    }


def leave_out(folder: Path) -> dict[str, float]:
    """{class: area under the curve of its val images against the others', where its train images were not known}."""
    from pipeline.training.feature_cache import Features
    from pipeline.training.scope import describe, distances, fit_scope

    features = Features.open(folder)
    train, train_kinds = describe(features.split("train"))
    val, val_kinds = describe(features.split("val"))
    areas = {}
    for number, name in enumerate(features.classes):
        rest, own = train_kinds != number, val_kinds == number
        if own.any():
            found = distances(val, *fit_scope(train[rest], train_kinds[rest]))
            areas[name] = round(area_under_curve(found[own], found[~own]), 4)
    return areas
