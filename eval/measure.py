"""Ask rows about images: which images, whether they can be measured at all, and what a row makes of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from eval.metrics import dice, iou, surface_dice
from eval.records import Record
from eval.row import Question, Ready
from pipeline.datasets import SOURCES, Sample, Source, read_source
from pipeline.errors import InputError
from pipeline.geometry import union_of

#: Images that a row without its weights is timed on.
_TIMED = 3


def read_sources(folder: Path, classes: tuple[str, ...], *, strict: bool = False) -> list[Source]:
    """Data sets in `folder` (or the folder itself) with masks of one class that the release knows.

    Others are left out; with `strict`, one that is broken, or whose single class the release does not know, is an
    InputError. Data sets with several classes are always left out, such as NIH's boxes of findings.
    """
    places = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    sources, refused, foreign = [], None, None
    for place in [folder, *places]:
        try:
            source = read_source(place)
        except InputError as error:
            if strict and any(module.matches(place.absolute()) for module in SOURCES.values()):
                raise
            refused = refused or error
            continue
        if len(source.classes) == 1 and source.classes[0] in classes:
            sources.append(source)
        else:
            found = f"its class {source.classes[0]!r}" if len(source.classes) == 1 else f"{len(source.classes)} classes"
            said = InputError(place, f"{found}, which the release does not know", f"one of {', '.join(classes)}")
            foreign = foreign or said
            if strict and len(source.classes) == 1:
                raise said
    if not sources:
        raise foreign or refused or InputError(folder, "no data set of the release's classes", ", ".join(classes))
    return sources


def in_split(sources: list[Source], split: str) -> list[tuple[Source, Sample]]:
    """Every sample of a split; raises InputError where there is none."""
    samples = [(source, sample) for source in sources for sample in source.samples if sample.split == split]
    if not samples:
        raise InputError("--split", f"no image is in {split}", "a split with images, see splits.csv of the data")
    return samples


def chosen(sources: list[Source], split: str, limit: int | None) -> list[tuple[Source, Sample]]:
    """The samples of a split, at most `limit` in all, as evenly from every source as it has them."""
    samples = in_split(sources, split)
    own = {source.name: [sample for of, sample in samples if of is source] for source in sources}
    counts = {name: len(of) for name, of in own.items()}
    if limit is not None and limit < len(samples):
        left = limit
        for place, name in enumerate(sorted(own, key=lambda name: len(own[name]))):
            counts[name] = min(len(own[name]), left // (len(own) - place))
            left -= counts[name]
    picked = []
    for source in sources:
        of = own[source.name]
        places = np.linspace(0, len(of) - 1, counts[source.name]).round().astype(int) if counts[source.name] else []
        picked += [(source, of[place]) for place in np.unique(places)]
    return picked


def check_samples(samples: list[tuple[Source, Sample]]) -> None:
    """Load every sample once, so that one that can't be measured is named before any work is done."""
    for source, sample in tqdm(samples, desc="checking", unit="image", disable=None):
        pixels, regions = sample.load()
        for region in regions:
            if region.mask is None or region.mask.shape != pixels.shape[:2]:
                found = "no mask" if region.mask is None else f"a mask of {region.mask.shape}"
                raise InputError(f"{source.name}/{sample.name}", found, f"a mask of {pixels.shape[:2]}")


def measure_row(
    name: str, ready: Ready, samples: list[tuple[Source, Sample]], reference: dict[tuple[str, str], Record]
) -> Iterator[Record]:
    """Ask a row about every sample. Rows with our boxes need the reference's records of these samples."""
    for source, sample in tqdm(samples, desc=name, unit="image", disable=None):
        question, truth = _question(source, sample, reference)
        outcome = ready.answer(question)
        values = [None] * 3
        if truth.any():
            values = [round(score(outcome.mask, truth), 5) for score in (dice, iou, surface_dice)]
        yield Record(
            source.name,
            sample.name,
            sample.patient,
            question.label,
            *values,
            round(outcome.milliseconds, 2),
            None if outcome.boxes is None else outcome.boxes.round(2).tolist(),
            outcome.others,
            question.true_boxes.round(2).tolist(),
            outcome.proposals,
        )


def time_row(
    name: str, ready: Ready, samples: list[tuple[Source, Sample]], reference: dict[tuple[str, str], Record]
) -> list[float]:
    """Milliseconds of a few samples with true regions, for a row whose masks mean nothing; the first one warms up."""
    times = []
    for source, sample in tqdm(_with_regions(samples), desc=f"{name}, times", total=_TIMED + 1, disable=None):
        question, _ = _question(source, sample, reference)
        # what is timed is the network, whatever our own has found
        our_boxes = question.our_boxes if len(question.our_boxes) else question.true_boxes
        given = Question(
            sample.name, question.pixels, question.label, question.true_boxes, our_boxes, question.true_masks
        )
        times.append(round(ready.answer(given).milliseconds, 2))
    return times[1:] or times


def _with_regions(samples: list[tuple[Source, Sample]]) -> Iterator[tuple[Source, Sample]]:
    found = 0
    for source, sample in samples:
        if found <= _TIMED and sample.load()[1]:
            found += 1
            yield source, sample


def _question(source: Source, sample: Sample, reference: dict[tuple[str, str], Record]) -> tuple[Question, np.ndarray]:
    """What a row is asked, and the truth, bool (H, W)."""
    pixels, regions = sample.load()
    truth = union_of((region.mask for region in sample.load(every_pixel=True)[1]), pixels.shape[:2])
    true_boxes = np.array([region.box for region in regions], np.float32).reshape(-1, 4)
    ours = reference.get((source.name, sample.name))
    our_boxes = np.array(ours.boxes if ours else [], np.float32).reshape(-1, 4)
    masks = [region.mask for region in regions]
    return Question(sample.name, pixels, source.classes[0], true_boxes, our_boxes, masks), truth
