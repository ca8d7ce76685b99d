"""The Hub client's cache: a file that is not what it should be is taken out of it, so that nobody meets it again."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from hub.errors import WeightsError


def forget(path: Path) -> None:
    """Take a file out of the cache: its name in the snapshot, and the content that the name links to."""
    content = path.resolve()
    path.unlink(missing_ok=True)
    content.unlink(missing_ok=True)


def git_digest(content: bytes) -> str:
    """The digest under which git keeps a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def check_as_named(path: Path) -> None:
    """Raise WeightsError where a cached file isn't what its name says, and take it out of the cache.

    The manifest vouches for every file but itself. The cache keeps a small file under git's digest of its content, as
    the Hub gave it; a mirror may give the plain SHA-1.
    """
    kept_as = path.resolve().name
    if not re.fullmatch("[0-9a-f]{40}", kept_as):
        return
    content = path.read_bytes()
    if kept_as not in (git_digest(content), hashlib.sha1(content, usedforsecurity=False).hexdigest()):
        forget(path)
        raise WeightsError(f"{path}: damaged on the Hub or on its way, and taken out of the cache; run again.")
