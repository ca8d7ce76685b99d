"""`run.json`: what a folder of results was made with, and every run into it; and the lock on the folder."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hub.files import replace_file
from pipeline.errors import InputError
from pipeline.results import NOTICE

NAME = "run.json"
_LOCK = ".lock"


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Keep other runs out of a folder. The system lets go of the lock however the process ends."""
    with open(out / _LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(out, "another batch is writing to it", "another folder, or to wait") from None
        yield


def open_record(out: Path, settings: dict) -> dict:
    """The record of a folder, new where it has none; InputError where it was made with other settings."""
    path = out / NAME
    if not path.exists():
        return {"notice": NOTICE, "settings": settings, "runs": []}
    try:
        record = json.loads(path.read_text("utf-8"))
        before, _ = record["settings"], record["runs"]
    except (ValueError, KeyError, TypeError, OSError):
        raise InputError(path, "not the record of a batch", "another folder as --out") from None
    if before != settings:
        other = ", ".join(name for name in settings if before.get(name) != settings[name])
        raise InputError(out, f"holds results of other settings ({other})", "the same, or another folder as --out")
    return record


def write_record(out: Path, record: dict) -> None:
    with replace_file(out / NAME) as file:
        json.dump(record, file, indent=1)
        file.write("\n")
