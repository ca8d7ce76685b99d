"""Make data sets uniform: 640x640 canvases, a split by patient, one COCO-style JSON a split.

Work is done in groups of samples (a volume's slices, or a block of images). A finished group leaves a record in
`OUT/records/`, so a stopped run goes on where it was, and memory does not grow with the number of images. What a record
lists is not read again: after changing an image or a mask under the same name, start with an empty OUT.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

from hub.files import replace_file
from hub.tables import markdown_table
from pipeline.datasets import CLASSES, Sample, Source, read_source
from pipeline.datasets.contact_sheet import draw_contact_sheet
from pipeline.datasets.image_files import is_grey
from pipeline.errors import InputError
from pipeline.geometry import Resize, xyxy_to_xywh
from pipeline.rle import encode_mask

CANVAS = 640
SPLITS = ("train", "val", "test")
#: Tenths of the patients where train and val end.
_ENDS = (7, 9)
_BLOCK = 32


@dataclass(frozen=True)
class Group:
    """Samples that are prepared together."""

    name: str
    samples: tuple[Sample, ...]


def split_by_patient(samples: tuple[Sample, ...], seed: int = 0) -> dict[str, str]:
    """{sample name: split}: the source's own split where it has one, else 70 / 20 / 10 of the patients at random."""
    given: dict[str, str] = {}
    for sample in samples:
        if sample.split and given.setdefault(sample.patient, sample.split) != sample.split:
            found = f"in {given[sample.patient]} and in {sample.split}"
            raise InputError(f"patient {sample.patient} ({sample.name})", found, "each patient in one split")
    free = sorted({sample.patient for sample in samples} - given.keys())
    order = np.random.default_rng(seed).permutation(len(free))
    ends = [(tenths * len(free) + 5) // 10 for tenths in _ENDS]
    drawn = {free[patient]: SPLITS[np.searchsorted(ends, place, "right")] for place, patient in enumerate(order)}
    of_patient = given | drawn
    return {sample.name: of_patient[sample.patient] for sample in samples}


def group_samples(source: Source) -> list[Group]:
    """A group a series, and blocks of the images that belong to none."""
    groups, loose = [], []
    for series, run in groupby(source.samples, key=lambda sample: sample.series):
        if series is None:
            loose += run
        else:
            groups.append((series, list(run)))
    groups += [
        (f"images_{first // _BLOCK:05d}", loose[first : first + _BLOCK]) for first in range(0, len(loose), _BLOCK)
    ]
    return [Group(name, tuple(run)) for name, run in groups]


def prepare_sample(sample: Sample, source: Source, out: Path) -> dict:
    """Write one canvas and return its record: the image's entry and its annotations, without their numbers."""
    pixels, regions = sample.load()
    height, width = pixels.shape[:2]
    resize = Resize.plan(width, height, CANVAS, "letterbox")
    canvas = resize.image(pixels)
    if is_grey(canvas):
        canvas = canvas[..., 0]
    name = f"images/{source.name}/{sample.name}.png"
    with replace_file(out / name, "wb") as file:
        Image.fromarray(canvas).save(file, format="PNG", compress_level=1)
    annotations = []
    for region in regions:
        box = xyxy_to_xywh(resize.boxes(region.box))[0]
        annotation = {
            "label": region.label,
            "bbox": [round(float(v), 2) for v in box],
            "area": round(float(box[2] * box[3]), 1),
            "iscrowd": 0,
            "segmentation": [],
        }
        if region.mask is not None:
            rle = encode_mask(resize.mask(region.mask))
            if not coco_mask.area(rle):
                continue  # smaller than half a pixel of the canvas
            annotation["area"] = int(coco_mask.area(rle))
            annotation["segmentation"] = {"size": [CANVAS, CANVAS], "counts": rle["counts"].decode("ascii")}
        annotations.append(annotation)
    image = {
        "file_name": name,
        "width": CANVAS,
        "height": CANVAS,
        "content": list(resize.content),
        "original_size": [width, height],
        "source": source.name,
        "modality": source.modality,
        "patient": sample.patient,
        "series": sample.series,
        "slice_index": sample.slice_index,
    }
    return {"sample": sample.name, "image": image, "annotations": annotations}


def prepare_group(group: Group, source: Source, out: Path) -> Path:
    """Prepare a group unless a record of the same samples is there already; returns the record's path."""
    record = out / "records" / source.name / f"{group.name}.json"
    names = [sample.name for sample in group.samples]
    # a source may have grown since, which moves its images to other blocks
    if not record.is_file() or [row["sample"] for row in json.loads(record.read_text(encoding="utf-8"))] != names:
        (out / "images" / source.name).mkdir(parents=True, exist_ok=True)
        rows = [prepare_sample(sample, source, out) for sample in group.samples]
        record.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(record) as file:
            json.dump(rows, file, separators=(",", ":"))
    return record


def prepare(paths: list[Path], out: Path, *, seed: int = 0, workers: int | None = None) -> str:
    """Prepare data sets into `out`; returns the summary as a Markdown table (also written to `out/summary.md`)."""
    sources = [read_source(path) for path in paths]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(out, f"can't be made ({error.strerror})", "a folder to write to") from None
    names = Counter(source.name for source in sources)
    for name, count in names.items():
        if count > 1:
            raise InputError(name, f"{count} data sets of this name", "folders with different names")
    records: list[Path] = []
    splits: dict[tuple[str, str], str] = {}
    with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
        for source in sources:
            for name, split in split_by_patient(source.samples, seed).items():
                splits[source.name, name] = split
            groups = group_samples(source)
            small = Source(source.name, source.modality, source.classes, ())
            work = pool.map(partial(prepare_group, source=small, out=out), groups)
            records += tqdm(work, total=len(groups), desc=source.name, unit="group", disable=None)
    categories = _categories(sources)
    for split in SPLITS:
        _write_split(out / f"{split}.json", partial(_rows, records, splits, split), categories)
    summary = _summary(sources, {split: _rows(records, splits, split) for split in SPLITS})
    with replace_file(out / "summary.md") as file:
        file.write(summary)
    every = partial(_rows_of_all, records, splits)
    draw_contact_sheet(out, [source.name for source in sources], every)
    return summary


def _categories(sources: list[Source]) -> list[dict]:
    """The release's classes by their fixed ids, if they cover all labels; else the sources' own, in order."""
    labels = list(dict.fromkeys(label for source in sources for label in source.classes))
    known = CLASSES if set(labels) <= set(CLASSES) else labels
    return [{"id": number, "name": name} for number, name in enumerate(known, start=1)]


def _rows(records: list[Path], splits: dict[tuple[str, str], str], split: str) -> Iterator[dict]:
    for record in records:
        for row in json.loads(record.read_text(encoding="utf-8")):
            if splits[row["image"]["source"], row["sample"]] == split:
                yield row


def _rows_of_all(records: list[Path], splits: dict[tuple[str, str], str]) -> Iterator[dict]:
    """Of all images: first those of train, then of val, then of test."""
    for split in SPLITS:
        yield from _rows(records, splits, split)


def _write_split(path: Path, rows: Callable[[], Iterator[dict]], categories: list[dict]) -> None:
    """COCO JSON, written row by row: first all images, then all annotations."""
    ids = {category["name"]: category["id"] for category in categories}

    def images() -> Iterator[dict]:
        for number, row in enumerate(rows(), start=1):
            yield {"id": number, **row["image"]}

    def annotations() -> Iterator[dict]:
        count = 0
        for number, row in enumerate(rows(), start=1):
            for annotation in row["annotations"]:
                count += 1
                rest = {key: value for key, value in annotation.items() if key != "label"}
                yield {"id": count, "image_id": number, "category_id": ids[annotation["label"]], **rest}

    with replace_file(path) as file:
        file.write('{"categories": ' + json.dumps(categories))
        for key, entries in (("images", images()), ("annotations", annotations())):
            file.write(f',\n"{key}": [\n')
            for number, entry in enumerate(entries):
                file.write((",\n" if number else "") + json.dumps(entry, separators=(",", ":")))
            file.write("\n]")
        file.write("}\n")


_COLUMNS = ("source", "modality", "classes", *SPLITS, "patients", "regions", "images without any", "missing")


def _summary(sources: list[Source], rows_of: dict[str, Iterator[dict]]) -> str:
    counts: dict[str, Counter] = {source.name: Counter() for source in sources}
    patients: dict[str, set] = {source.name: set() for source in sources}
    for split, rows in rows_of.items():
        for row in rows:
            name = row["image"]["source"]
            counts[name][split] += 1
            counts[name]["regions"] += len(row["annotations"])
            counts[name]["empty"] += not row["annotations"]
            patients[name].add(row["image"]["patient"])
    rows = []
    for source in sources:
        of = counts[source.name]
        cells = [source.name, source.modality, ", ".join(source.classes), *(of[split] for split in SPLITS)]
        cells += [len(patients[source.name]), of["regions"], of["empty"], len(source.missing)]
        rows.append(cells)
    return markdown_table(_COLUMNS, rows, texts=3) + "\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="+", type=Path, metavar="SOURCE", help="folder of a data set, or a COCO .json")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the prepared data goes")
    parser.add_argument("--seed", type=int, default=0, help="of the 70/20/10 split, where a source has none")
    parser.add_argument("--workers", type=int, default=None, help="processes (default: one a core)")


def run(arguments: argparse.Namespace) -> int:
    print(prepare(arguments.sources, arguments.out, seed=arguments.seed, workers=arguments.workers), end="")
    return 0
