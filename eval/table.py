"""The comparison table: every row on the same images, resumable, image by image.

`--out` holds rows/NAME.jsonl, every image's figures; results.json, the summary of all rows there; table.md and
table.csv; plots, and a contact sheet of the reference row's images. A row that can't run says why, and has no number.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from eval.contact_sheet import draw_sheet, save_sheet
from eval.figures import read_sources
from eval.metrics import dice, iou, surface_dice
from eval.records import Record, read_records, write_records
from eval.rows import REFERENCE, ROWS, Question, Row
from eval.summary import summarise_row
from hub.files import replace_file
from hub.release import Release
from hub.resolve import resolve
from hub.revision import git_revision, machine_name
from pipeline import AutoSegmenter
from pipeline.datasets import Sample, Source
from pipeline.errors import InputError
from pipeline.geometry import union_of

_COLUMNS = ("row", "boxes", "images", "Dice", "95 %", "IoU", "NSD", "box recall", "AP50", "less Dice than ours", "ms")


def chosen(sources: list[Source], split: str, limit: int | None) -> list[tuple[Source, Sample]]:
    """The samples of a split, at most `limit` in all, as evenly from every source as it has them."""
    own = {source.name: [sample for sample in source.samples if sample.split == split] for source in sources}
    total = sum(map(len, own.values()))
    if not total:
        raise InputError("--split", f"no image is in {split}", "a split with images, see splits.csv of the data")
    counts = {name: len(of) for name, of in own.items()}
    if limit is not None and limit < total:
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
    row: Row,
    samples: list[tuple[Source, Sample]],
    reference: dict[tuple[str, str], Record],
    weights: str,
    threads: int | None,
) -> Iterator[Record]:
    """Ask a row about every sample. Rows with our boxes need the reference's records of these samples."""
    answer = row.open(weights, threads)
    for source, sample in tqdm(samples, desc=row.name, unit="image", disable=None):
        label = source.classes[0]
        pixels, regions = sample.load()
        truth = union_of((region.mask for region in sample.load(every_pixel=True)[1]), pixels.shape[:2])
        true_boxes = np.array([region.box for region in regions], np.float32).reshape(-1, 4)
        ours = reference.get((source.name, sample.name))
        our_boxes = np.array(ours.boxes if ours else [], np.float32).reshape(-1, 4)
        outcome = answer(Question(pixels, label, true_boxes, our_boxes))
        values = [None] * 3
        if truth.any():
            values = [round(score(outcome.mask, truth), 5) for score in (dice, iou, surface_dice)]
        yield Record(
            source.name,
            sample.name,
            sample.patient,
            label,
            *values,
            round(outcome.milliseconds, 2),
            None if outcome.boxes is None else outcome.boxes.round(2).tolist(),
            outcome.others,
            true_boxes.round(2).tolist(),
            outcome.proposals,
        )


def make_table(results: dict) -> list[list[str]]:
    """The cells of every row, `_COLUMNS` first; a row that did not run has its reason."""
    lines = [list(_COLUMNS)]
    for name, row in results["rows"].items():
        if "reason" in row:
            lines.append([row["title"], row["boxes"], "0", f"not run: {row['reason']}", *[""] * (len(_COLUMNS) - 4)])
            continue
        figures, boxes, less = row["figures"], row["figures"]["boxes"] or {}, row["figures"]["less_than_reference"]
        macro = figures["macro"]
        cells = [f"{figures['images']}", _number(macro["dice"]), _range(macro["dice"])]
        cells += [_number(macro["iou"]), _number(macro["nsd"])]
        cells += [f"{boxes[key]:.3f}" if boxes.get(key) is not None else "" for key in ("recall_50", "ap50")]
        cells += ["" if name == REFERENCE or not less else f"{-less['mean']:+.3f} ({_range(less, -1)})"]
        lines.append([row["title"], row["boxes"], *cells, f"{figures['milliseconds']['p50']:.0f}"])
    return lines


def _number(value: dict | None) -> str:
    return "" if value is None else f"{value['mean']:.3f}"


def _range(value: dict | None, sign: int = 1) -> str:
    if value is None:
        return ""
    low, high = sorted((sign * value["low"], sign * value["high"]))
    return f"{low:.3f} to {high:.3f}"


def write_table(out: Path, results: dict) -> None:
    lines = make_table(results)
    with replace_file(out / "results.json") as file:
        json.dump(results, file, indent=1)
    with replace_file(out / "table.csv") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
    ruled = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    sources = ["", "Dice a source:", "", *_source_lines(results)]
    said = (
        f"The {results['split']} split, release {results['weights']['version']}, {results['machine']}, "
        f"revision {results['revision']}. Brackets are 95 % intervals by patient."
    )
    with replace_file(out / "table.md") as file:
        file.write("\n".join(["| " + " | ".join(line) + " |" for line in ruled] + sources + ["", said, ""]))


def _source_lines(results: dict) -> list[str]:
    rows = [row for row in results["rows"].values() if "figures" in row]
    names = list(dict.fromkeys(name for row in rows for name in row["figures"]["sources"]))
    lines = ["| row | boxes |" + "".join(f" {name} |" for name in names), "| --- | --- |" + " ---: |" * len(names)]
    for row in rows:
        cells = [row["figures"]["sources"].get(name, {}).get("dice") for name in names]
        lines.append(f"| {row['title']} | {row['boxes']} |" + "".join(f" {c:.3f} |" if c else " |" for c in cells))
    return lines


def summarise(out: Path, about: dict, release: Release, split: str, reasons: dict[str, str]) -> dict:
    """results.json: every row whose records lie in `out`, in the order of ROWS, and why others did not run."""
    reference = read_records(_file(out, REFERENCE), about)
    rows = {}
    for name, row in ROWS.items():
        records = list(read_records(_file(out, name), about).values())
        entry = {"title": row.title, "boxes": row.boxes}
        if records:
            rows[name] = entry | {"figures": summarise_row(records, reference)}
        elif name in reasons:
            rows[name] = entry | {"reason": reasons[name]}
    return {
        "split": split,
        "weights": release.identity,
        "sizes": {name: part.get("bytes") for name, part in release.manifest["precisions"].items()},
        "revision": git_revision(),
        "machine": machine_name(),
        "date": time.strftime("%Y-%m-%d"),
        "rows": rows,
    }


def _file(out: Path, row: str) -> Path:
    return out / "rows" / f"{row}.jsonl"


def _row_names(text: str) -> list[str]:
    names = text.split(",")
    strange = [name for name in names if name not in ROWS]
    if strange:
        raise argparse.ArgumentTypeError(f"no row {strange[0]!r}; expected some of {', '.join(ROWS)}")
    return names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="folder that holds the data sets")
    add("--split", choices=("train", "val", "test"), default="test")
    add("--weights", default="embedded", help="'embedded', a release folder, or user/repo@revision")
    add("--rows", type=_row_names, default=list(ROWS), metavar="A,B", help=f"some of {', '.join(ROWS)} (default all)")
    add("--limit", type=int, metavar="N", help="at most N images, evenly from the sources (default all)")
    add("--threads", type=int, help="CPU threads (default: all cores)")
    add("--out", type=Path, required=True, metavar="DIR", help="records, table and plots; a stopped run goes on there")


def run(arguments: argparse.Namespace) -> int:
    import surface_distance  # noqa: F401  a lacking package is said before any work is done

    from eval.plots import plot_sources, plot_speed

    if arguments.limit is not None and arguments.limit < 1:
        raise InputError("--limit", str(arguments.limit), "a number of images from 1")
    release = resolve(arguments.weights)
    names = tuple(entry["name"] for entry in release.config["classes"])
    samples = chosen(read_sources(arguments.data, names), arguments.split, arguments.limit)
    about = {"weights": release.files_sha256, "split": arguments.split}
    rows = [ROWS[REFERENCE], *(ROWS[name] for name in arguments.rows if name != REFERENCE)]
    done = {row.name: read_records(_file(arguments.out, row.name), about) for row in rows}
    left = {row.name: [s for s in samples if (s[0].name, s[1].name) not in done[row.name]] for row in rows}
    check_samples(max(left.values(), key=len))
    reasons = {}
    for row in rows:
        reference = read_records(_file(arguments.out, REFERENCE), about)
        try:
            if left[row.name]:
                records = measure_row(row, left[row.name], reference, arguments.weights, arguments.threads)
                write_records(_file(arguments.out, row.name), about, records)
        except InputError as error:
            reasons[row.name] = str(error)
    results = summarise(arguments.out, about, release, arguments.split, reasons)
    write_table(arguments.out, results)
    plot_speed(results, arguments.out / "dice_and_time.png")
    plot_sources(results, arguments.out / "sources.png")
    records = list(read_records(_file(arguments.out, REFERENCE), about).values())
    by_key = {(source.name, sample.name): sample for source, sample in samples}
    shown = [record for record in records if record.key in by_key]
    save_sheet(
        draw_sheet(shown, by_key, AutoSegmenter.from_release(arguments.weights, REFERENCE, arguments.threads)),
        arguments.out / "cases.png",
    )
    print((arguments.out / "table.md").read_text("utf-8"))
    return 0
