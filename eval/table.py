"""The comparison table: every row on the same images, resumable, image by image.

`--out` holds rows/NAME.jsonl, every image's figures, and rows/NAME.json, what else is known of the row; results.json,
the summary of all rows there; table.md and table.csv; plots, and a contact sheet of the reference row's images; and
figures.json, for the release's manifest, once a row of ours has the whole split. Runs in several environments, each
with the rows that it can, make one table. A row that can't run says why, and has no number.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np

from eval.contact_sheet import draw_sheet, save_sheet
from eval.facts import Facts, read_facts, write_facts
from eval.figures import about, manifest_figures
from eval.kept import with_kept
from eval.measure import check_samples, chosen, in_split, measure_row, read_sources, time_row
from eval.records import Record, read_records, write_records
from eval.report import markdown, table_lines
from eval.row import REFERENCE, Row, Setting
from eval.rows import ROWS, rows_of
from eval.summary import summarise_row
from hub.files import replace_file
from hub.release import Release
from hub.resolve import resolve
from pipeline import AutoSegmenter
from pipeline.datasets import Sample, Source
from pipeline.errors import InputError

#: Rows whose figures a release's manifest holds.
_OF_MANIFEST = ("int8", "fp32", "fp16")

Key = tuple[str, str]


class Table:
    """What lies in `--out`, for one release and split.

    Attributes
    ----------
    keys : (source, sample) of the images of this run; the table is made of these alone
    """

    def __init__(self, out: Path, release: Release, setting: Setting, samples: list[tuple[Source, Sample]]):
        self.out, self.release, self.setting, self.samples = out, release, setting, samples
        self.rows = rows_of(setting)
        self.keys = {(source.name, sample.name) for source, sample in samples}

    def all_records(self, row: Row) -> dict[Key, Record]:
        """Every record of a row, of this run's images or not. Raises InputError where they are of something else."""
        return read_records(self._path(row, "jsonl"), self._about(row))

    def records(self, row: Row) -> dict[Key, Record]:
        return {key: record for key, record in self.all_records(row).items() if key in self.keys}

    def left(self, row: Row) -> list[tuple[Source, Sample]]:
        """The images that a row has still to be asked about."""
        done = self.all_records(row)
        own = [(source, sample) for source, sample in self.samples if row.source in (None, source.name)]
        return [(source, sample) for source, sample in own if (source.name, sample.name) not in done]

    def fill(self, row: Row) -> None:
        """Ask a row about the images that are left; what is lacking for that is noted, and no error."""
        left, path = self.left(row), self._path(row, "json")
        if not left:
            return
        known, reference = read_facts(path), self.records(self.rows[REFERENCE])
        try:
            ready = row.open(self.setting)
            if not ready.absent:
                write_facts(path, Facts(ready.bytes))
                records = measure_row(row.name, ready, left, reference)
                write_records(self._path(row, "jsonl"), self._about(row), records)
            elif not (known and known.absent == ready.absent):
                times = time_row(row.name, ready, left, reference)
                write_facts(path, Facts(ready.bytes, absent=ready.absent, milliseconds=times))
        except InputError as error:
            if row.name == REFERENCE:
                raise
            # what another environment could say of the row stays
            if not self.all_records(row) and not (known and known.absent):
                write_facts(path, Facts(reason=str(error)))

    def summarise(self) -> dict:
        """results.json: every row that was ever asked for, in the order of the table."""
        reference = self.records(self.rows[REFERENCE])
        rows = {}
        for name, row in self.rows.items():
            facts, records = read_facts(self._path(row, "json")), list(self.records(row).values())
            entry = {"title": row.title, "boxes": row.boxes}
            if facts and facts.bytes:
                entry["bytes"] = facts.bytes
            if records:
                rows[name] = entry | {"figures": summarise_row(records, reference)}
            elif facts and facts.absent:
                median = round(float(np.median(facts.milliseconds)), 1) if facts.milliseconds else None
                times = {"milliseconds": {"p50": median}} if median is not None else {}
                rows[name] = entry | {"absent": facts.absent} | times
            elif facts and facts.reason:
                rows[name] = entry | {"reason": facts.reason}
        return {
            "weights": self.release.identity,
            "sizes": {name: part.get("bytes") for name, part in self.release.manifest["precisions"].items()},
            **self._made_by(),
            "rows": rows,
        }

    def manifest(self, sources: list[Source]) -> dict:
        """The manifest's figures: of every precision that was measured on the whole split."""
        # in the order of the data, whatever order they were measured in
        whole = [(source.name, sample.name) for source, sample in in_split(sources, self.setting.split)]
        figures = {}
        for name in _OF_MANIFEST:
            records = self.all_records(self.rows[name])
            if records.keys() >= set(whole):
                figures[name] = manifest_figures([records[key] for key in whole])
        return self._made_by() | figures if figures else {}

    def _made_by(self) -> dict:
        return about(self.setting.split, f"python -m eval table --data DATA --split {self.setting.split}")

    def _path(self, row: Row, suffix: str) -> Path:
        return self.out / "rows" / f"{row.name}.{suffix}"

    def _about(self, row: Row) -> dict:
        """What a row's records were measured with: other weights, another split or network make others."""
        weights = {"weights": self.release.files_sha256} if row.of_release else {}
        return weights | {"split": self.setting.split} | row.about


def write_table(out: Path, results: dict) -> None:
    with replace_file(out / "results.json") as file:
        json.dump(results, file, indent=1)
    with replace_file(out / "table.csv") as file:
        csv.writer(file, lineterminator="\n").writerows(table_lines(results))
    with replace_file(out / "table.md") as file:
        file.write(markdown(results))


def _row_names(text: str) -> list[str]:
    names = text.split(",")
    strange = [name for name in names if name not in ROWS and not name.startswith("nnunet")]
    if strange:
        raise argparse.ArgumentTypeError(f"no row {strange[0]!r}; expected some of {', '.join(ROWS)}, nnunet")
    return names


def _asked(names: list[str] | None, rows: dict[str, Row]) -> list[Row]:
    """The rows of these names, the reference first, since others take its boxes; 'nnunet' is all of nnU-Net's."""
    wanted = [row for name, row in rows.items() if names is None or name in names]
    if names and "nnunet" in names:
        wanted += [row for name, row in rows.items() if name.startswith("nnunet") and row not in wanted]
    strange = [name for name in names or () if name not in rows and name != "nnunet"]
    if strange:
        raise InputError("--rows", f"no row {strange[0]!r}", f"some of {', '.join(rows)}")
    return [rows[REFERENCE], *(row for row in wanted if row.name != REFERENCE)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="folder that holds the data sets")
    add("--sources", type=lambda text: text.split(","), metavar="A,B", help="these data sets alone (default: all)")
    add("--split", choices=("train", "val", "test"), default="test")
    add("--weights", default="embedded", help="'embedded', a release folder, or user/repo@revision")
    text = f"some of {', '.join(ROWS)}, and nnunet for all of nnU-Net's (default: all)"
    add("--rows", type=_row_names, metavar="A,B", help=text)
    add("--limit", type=int, metavar="N", help="at most N images, evenly from the sources (default: all)")
    add("--threads", type=int, help="CPU threads (default: all cores)")
    text = "folder of other projects' weights (default %(default)s)"
    add("--checkpoints", type=Path, default=Setting.checkpoints, metavar="DIR", help=text)
    add("--fetch", action="store_true", help="fetch those from the Hub where they are absent")
    text = "folder of `python -m eval nnunet` (default %(default)s)"
    add("--nnunet", type=Path, default=Setting.nnunet, metavar="DIR", help=text)
    text = "results.json of an earlier table, whose rows of other methods stand in for those that this one lacks"
    add("--keep", type=Path, metavar="FILE", help=text)
    add("--out", type=Path, required=True, metavar="DIR", help="records, table and plots; a stopped run goes on there")


def run(arguments: argparse.Namespace) -> int:
    import surface_distance  # noqa: F401  a lacking package is said before any work is done

    from eval.plots import plot_sources, plot_speed

    if arguments.limit is not None and arguments.limit < 1:
        raise InputError("--limit", str(arguments.limit), "a number of images from 1")
    release = resolve(arguments.weights)
    sources = _sources(arguments, release)
    setting = Setting(
        arguments.weights,
        arguments.threads,
        arguments.split,
        arguments.checkpoints,
        arguments.fetch,
        arguments.nnunet,
    )
    table = Table(arguments.out, release, setting, chosen(sources, arguments.split, arguments.limit))
    rows = _asked(arguments.rows, table.rows)
    check_samples(max(map(table.left, rows), key=len))
    for row in rows:
        table.fill(row)
    results = table.summarise()
    if arguments.keep:
        results = with_kept(results, arguments.keep)
    write_table(arguments.out, results)
    if figures := table.manifest(sources):
        with replace_file(arguments.out / "figures.json") as file:
            json.dump(figures, file, indent=1)
    plot_speed(results, arguments.out / "dice_and_time.png")
    plot_sources(results, arguments.out / "sources.png")
    _draw_cases(table)
    print((arguments.out / "table.md").read_text("utf-8"))
    return 0


def _sources(arguments: argparse.Namespace, release: Release) -> list[Source]:
    classes = tuple(entry["name"] for entry in release.config["classes"])
    sources = read_sources(arguments.data, classes, strict=arguments.sources is None)
    names = [source.name for source in sources]
    strange = [name for name in arguments.sources or () if name not in names]
    if strange:
        raise InputError(
            "--sources", f"no data set {strange[0]!r} of the release's classes", f"some of {', '.join(names)}"
        )
    return [source for source in sources if arguments.sources is None or source.name in arguments.sources]


def _draw_cases(table: Table) -> None:
    """The contact sheet, of the reference row."""
    by_key = {(source.name, sample.name): sample for source, sample in table.samples}
    shown = list(table.records(table.rows[REFERENCE]).values())
    segment = AutoSegmenter.from_release(table.setting.weights, REFERENCE, table.setting.threads)
    save_sheet(draw_sheet(shown, by_key, segment), table.out / "cases.png")
