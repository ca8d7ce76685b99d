"""What a row made of each image, a JSON line an image, so that a stopped run goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.errors import InputError


@dataclass(frozen=True)
class Record:
    """One image, one row of the table.

    Attributes
    ----------
    dice, iou, nsd : 0..1, None where the image has no truth
    boxes : the row's own boxes of the class, xyxy in pixels; None where it was given boxes
    others : how many boxes of other classes it found
    true_boxes : xyxy in pixels
    proposals : [x1, y1, x2, y2, score, label], surest first
    """

    source: str
    sample: str
    patient: str
    label: str
    dice: float | None
    iou: float | None
    nsd: float | None
    milliseconds: float
    boxes: list[list[float]] | None
    others: int
    true_boxes: list[list[float]]
    proposals: list[list] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str]:
        return self.source, self.sample


def read_records(path: Path, about: dict) -> dict[tuple[str, str], Record]:
    """The records of a file, by source and sample. `about` is its first line: what they were measured with.

    Raises InputError where the file was made with something else. A last line that a stopped run left half is dropped.
    """
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        head = json.loads(lines[0]) if lines else None
    except ValueError:
        head = None
    if head != about:
        expected = "a folder of its own for every release and split: name another --out, or delete this file"
        raise InputError(path, f"made with {head}", f"{about}; {expected}")
    records = {}
    for line in lines[1:]:
        try:
            record = Record(**json.loads(line))
        except (ValueError, TypeError):
            break
        records[record.key] = record
    return records


def write_records(path: Path, about: dict, records: Iterable[Record]) -> None:
    """Append to `path`, line by line; a new file gets `about` first, and one with a half line loses that line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = read_records(path, about)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in (about, *map(asdict, known.values())))
        for record in records:
            file.write(json.dumps(asdict(record)) + "\n")
            file.flush()
