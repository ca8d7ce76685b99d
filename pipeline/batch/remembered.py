"""The sha256 of what a URL names, kept with the version that its store tells, so that it is not fetched again for it.

Files of this machine are always hashed: that is quick, and nothing else says for sure that a file is as it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from hub.files import replace_file
from pipeline.batch.listing import Input
from pipeline.batch.places import is_url, version_of
from pipeline.batch.threads import map_in_threads
from pipeline.errors import InputError

_NAME = "hashes.json"
#: Stores that are asked at the same time.
_ASKED = 16


def hash_with_memory(
    out: Path, inputs: Sequence[Input], hash_all: Callable[[Iterable[Input]], Iterator[str | InputError]]
) -> Iterator[str | InputError]:
    """The sha256 of each input's content, or why it can't be read, in order; `hash_all` does so for those that are not
    remembered. What was learnt is kept in `out` when the last has been taken."""
    before = _read(out / _NAME)
    keys = list(map_in_threads(_versions, inputs, _ASKED))
    hashes = hash_all([found for found, key in zip(inputs, keys, strict=True) if key not in before])
    now = {}
    for key in keys:
        answer = before[key] if key in before else next(hashes)
        if key and isinstance(answer, str):
            now[key] = answer
        yield answer
    if now != before:
        with replace_file(out / _NAME) as file:
            json.dump(now, file)


def _versions(found: Input) -> str | None:
    """Names an input's files and their versions; None where one is of this machine, or its store tells no version."""
    if not all(map(is_url, found.files)):
        return None
    versions = [version_of(file) for file in found.files]
    return None if None in versions else json.dumps([found.files, versions])


def _read(path: Path) -> dict[str | None, str]:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
