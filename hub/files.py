"""Write a file so that a stopped run leaves nothing half-written under its name."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replace_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, with the same suffixes, that takes its place when the block ends well.

    For writers that want a path of their own, such as nibabel. When the block raises, the temporary file is removed and
    what stood at `path` before stays as it was. The folder must exist.
    """
    path = Path(path)
    suffixes = "".join(path.suffixes[-2:])
    temporary = path.with_name(f".{secrets.token_hex(8)}.part{suffixes}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replace_file(path: str | Path, mode: str = "w") -> Iterator[IO]:
    """Open a file for writing, `w` (UTF-8 text) or `wb`; its content appears under `path` at once, when the block ends.

    >>> with replace_file("result.json") as file:
    ...     file.write("{}")
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"mode {mode!r}; expected 'w' or 'wb'")
    text = {"encoding": "utf-8", "newline": "\n"} if mode == "w" else {}
    with replace_path(path) as temporary, open(temporary, mode.replace("w", "x"), **text) as file:
        yield file
