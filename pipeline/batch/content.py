"""The content of an input: its sha256, and its files where the readers can open them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pipeline.batch.listing import Input
from pipeline.batch.places import fetch, is_url, open_place
from pipeline.errors import InputError


def content_hash(files: Sequence[str]) -> str:
    """The sha256 of one file; of several, that of their sha256s in this order. InputError where one can't be read."""
    digests = [digest_of(file) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def hash_or_error(found: Input) -> str | InputError:
    """The sha256 of an input's content, or why it can't be read."""
    try:
        return content_hash(found.files)
    except InputError as error:
        subject = error.subject if found.is_folder else found.name
        return InputError(subject, error.problem, error.expected)


def digest_of(file: str | Path) -> str:
    """The sha256 of a file or of what a URL names."""
    with open_place(str(file)) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def local_copy(found: Input, below: Path) -> Iterator[tuple[Path, list[str]]]:
    """Where the readers find an input, and its files there, in order.

    A file on this machine stays where it is; what a URL names is fetched. A series becomes a folder of its own: its
    slices may lie among others. What is made lies in a temporary folder in `below` and goes when the block ends.
    """
    if not found.is_folder and not any(map(is_url, found.files)):
        yield Path(found.files[0]), list(found.files)
        return
    below.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=below) as folder:
        copies = [Path(folder, PurePosixPath(file).name) for file in found.files]
        for file, copy in zip(found.files, copies, strict=True):
            if is_url(file):
                fetch(file, copy)
            else:
                copy.symlink_to(os.path.abspath(file))
        yield Path(folder) if found.is_folder else copies[0], [str(copy) for copy in copies]
