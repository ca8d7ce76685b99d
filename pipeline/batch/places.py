"""Files here or on other machines' storage: what is a URL, and how to list, read and copy what it leads to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pipeline.errors import InputError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

#: `s3://`, `gs://`, `abfs://`, `https://`; a Windows drive has one letter.
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
#: Bytes of a remote file that are fetched at once where only its beginning is looked at.
_LOOK = 1 << 16


def is_url(place: str) -> bool:
    return bool(_URL.match(place))


def storage_of(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system that a URL names, and the path in it. InputError where it needs a package that is missing."""
    import fsspec

    with _said_of(url):
        return fsspec.core.url_to_fs(url)


def list_files(url: str) -> list[str]:
    """The URLs of the files that a URL names: one, all below a folder, or those that match a pattern; by name."""
    storage, path = storage_of(url)
    with _said_of(url):
        found = {}
        for match, told in _matches(storage, path).items():
            below = [match] if told["type"] == "file" else storage.find(match)
            found.update(dict.fromkeys(storage.unstrip_protocol(file) for file in sorted(below)))
    if not found:
        raise InputError(url, "no such file or folder, or nothing in it", "the URL of a file, a folder or a pattern")
    return list(found)


def _matches(storage: AbstractFileSystem, path: str) -> dict[str, dict]:
    """What a path or pattern leads to, and what the store tells of it."""
    if any(sign in path for sign in "*?["):
        return storage.glob(path, detail=True)
    try:
        return {path: storage.info(path)}
    except FileNotFoundError:
        return {}


def version_of(url: str) -> str | None:
    """What a store says of the content that a URL names, another for another content; None where it says nothing."""
    try:
        storage, path = storage_of(url)
        with _said_of(url):
            told = storage.info(path)
    except InputError:
        return None
    tag = told.get("ETag") or told.get("etag")
    return tag and f"{tag} {told.get('size')}"


@contextmanager
def open_place(place: str, *, look: bool = False) -> Iterator[IO[bytes]]:
    """Open a local file or a URL for reading; with `look`, only its beginning is likely to be read.

    Raises
    ------
    InputError
        Where it can't be opened or read.
    """
    with _said_of(place), _opened(place, look) as stream:
        yield stream


def _opened(place: str, look: bool) -> IO[bytes]:
    if not is_url(place):
        return open(place, "rb")
    storage, path = storage_of(place)
    return storage.open(path, "rb", **({"block_size": _LOOK} if look else {}))


def fetch(url: str, to: Path) -> None:
    """Copy what a URL names into a local file. InputError where it can't be had."""
    storage, path = storage_of(url)
    with _said_of(url):
        storage.get_file(path, str(to))


@contextmanager
def _said_of(place: str) -> Iterator[None]:
    """What goes wrong at a place becomes a sentence that names it, and nothing of the keys it is opened with."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(place, "no such file", "a file that exists") from None
    except PermissionError:
        raise InputError(place, "no permission to read it", "a file that you may read") from None
    except ImportError as error:
        found = f"needs a package that is not installed ({error})"
        raise InputError(place, found, "the package that reads such URLs") from None
    except Exception as error:
        # each store's client has exceptions of its own
        if not is_url(place) and not isinstance(error, OSError):
            raise
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise InputError(place, f"can't be read ({reason})", "a file that can be reached and read") from None
