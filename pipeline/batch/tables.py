"""The tables of a batch, in Parquet. They are made whole of what lies on the disk, in the order of the inputs.

`inputs`, `detections` and `failures` hold nothing that changes from run to run, so they are the same bytes however
often the batch was interrupted. Times do change: they have a table of their own, to be joined by sha256.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from hub.files import replace_path
from pipeline.batch.answers import is_done, read_failure, read_record
from pipeline.batch.listing import Input
from pipeline.errors import InputError

_WEIGHTS = [("weights_version", pa.string()), ("weights_sha256", pa.string()), ("precision", pa.string())]
_STAGES = ("read", "detect", "embed", "memory", "decode", "post", "total")

#: Boxes are x, y, width, height in pixels of the original image. Of a volume or a video a region is an object: `first`
#: and `last` are its slices or frames, `area_px` is that of a video's largest frame, and it has no box.
SCHEMAS = {
    "inputs": pa.schema(
        [
            ("input", pa.string()),
            ("sha256", pa.string()),
            ("files", pa.int32()),
            ("status", pa.string()),
            ("kind", pa.string()),
            ("height", pa.int32()),
            ("width", pa.int32()),
            ("frames", pa.int32()),
            ("regions", pa.int32()),
            ("out_of_scope", pa.bool_()),
            ("result", pa.string()),
            *_WEIGHTS,
        ]
    ),
    "detections": pa.schema(
        [
            ("input", pa.string()),
            ("sha256", pa.string()),
            ("region", pa.int32()),
            ("label", pa.string()),
            ("class_id", pa.int32()),
            ("score", pa.float64()),
            ("box_x", pa.float64()),
            ("box_y", pa.float64()),
            ("box_width", pa.float64()),
            ("box_height", pa.float64()),
            ("mask_iou", pa.float64()),
            ("area_px", pa.int64()),
            ("area_mm2", pa.float64()),
            ("first", pa.int32()),
            ("last", pa.int32()),
            ("volume_ml", pa.float64()),
            ("longest_diameter_mm", pa.float64()),
            *_WEIGHTS,
        ]
    ),
    "failures": pa.schema(
        [("input", pa.string()), ("sha256", pa.string()), ("problem", pa.string()), ("sentence", pa.string())]
    ),
    "timings": pa.schema([("sha256", pa.string()), *((f"{stage}_ms", pa.float64()) for stage in _STAGES)]),
}
#: Rows that are held in memory and become a row group.
_ROWS = 20_000


def table_path(out: Path, name: str) -> Path:
    return out / f"{name}.parquet"


def write_tables(out: Path, answers: Iterable[tuple[Input | InputError, str | None]]) -> dict[str, int]:
    """Write all tables, each whole or not at all; returns how many rows each has.

    Parameters
    ----------
    answers
        The inputs and the sha256 of their content; in place of an input why there is none, or why it can't be read.
    """
    with ExitStack() as stack:
        tables = {name: stack.enter_context(_Table(table_path(out, name), schema)) for name, schema in SCHEMAS.items()}
        timed: set[str] = set()
        for found, sha256 in answers:
            for name, row in _rows(out, found, sha256):
                if name != "timings" or sha256 not in timed:
                    tables[name].add(row)
            if sha256:
                timed.add(sha256)
        return {name: table.count for name, table in tables.items()}


def _rows(out: Path, found: Input | InputError, sha256: str | None) -> Iterator[tuple[str, dict]]:
    if isinstance(found, InputError):
        yield from _failed(found.subject, None, found.problem, str(found), files=0)
    elif is_done(out, sha256):
        yield from _done(out, found, sha256)
    else:
        failure = read_failure(out, sha256)
        # another input of the same content may have been the one that was tried
        sentence = failure["sentence"].replace(failure["input"], found.name)
        yield from _failed(found.name, sha256, failure["problem"], sentence, files=len(found.files))


def _failed(name: str, sha256: str | None, problem: str, sentence: str, files: int) -> Iterator[tuple[str, dict]]:
    key = {"input": _text(name), "sha256": sha256}
    yield "inputs", key | {"files": files, "status": "failed"}
    yield "failures", key | {"problem": _text(problem), "sentence": _text(sentence)}


def _done(out: Path, found: Input, sha256: str) -> Iterator[tuple[str, dict]]:
    record, place = read_record(out, sha256)
    kind = record.get("kind", "image")
    regions = record["detections"] if kind == "image" else record["objects"]
    frames, height, width = record["shape"] if kind != "image" else (1, record["height"], record["width"])
    key = {"input": _text(found.name), "sha256": sha256}
    weights = {
        "weights_version": record["weights"]["version"],
        "weights_sha256": record["weights"]["sha256"],
        "precision": record["precision"],
    }
    yield (
        "inputs",
        {
            **key,
            **weights,
            "files": len(found.files),
            "status": "done",
            "kind": kind,
            "height": height,
            "width": width,
            "frames": frames,
            "regions": len(regions),
            "out_of_scope": record.get("out_of_scope"),
            "result": _text(place),
        },
    )
    for number, region in enumerate(regions, 1):
        yield "detections", key | weights | {"region": number} | _region(region)
    yield "timings", {"sha256": sha256} | {f"{stage}_ms": record["timings_ms"].get(stage) for stage in _STAGES}


def _region(region: dict) -> dict:
    kept = ("label", "class_id", "score", "mask_iou", "area_mm2", "volume_ml", "longest_diameter_mm")
    row = {name: region.get(name) for name in kept}
    area = region.get("area_px")
    row["area_px"] = max(area, default=0) if isinstance(area, list) else area
    row |= dict(zip(("box_x", "box_y", "box_width", "box_height"), region.get("box", ()), strict=False))
    return row | dict(zip(("first", "last"), region.get("span", ()), strict=False))


def _text(name: str) -> str:
    """A file's name need not be UTF-8, a table's text must be."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


class _Table:
    """A Parquet file that takes its place when the block ends well."""

    def __init__(self, path: Path, schema: pa.Schema):
        self.schema, self.count, self._rows = schema, 0, []
        self._place = replace_path(path)

    def __enter__(self) -> _Table:
        self._writer = parquet.ParquetWriter(self._place.__enter__(), self.schema)
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._flush()
        self._writer.close()
        self._place.__exit__(*error)

    def add(self, row: dict) -> None:
        self._rows.append(row)
        self.count += 1
        if len(self._rows) >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, self.schema))
        self._rows.clear()
