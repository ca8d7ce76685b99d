"""The voxels of a header that stands alone lie in a file beside it."""

from __future__ import annotations

from pathlib import Path, PurePath

from pipeline.errors import InputError


def file_beside(header: Path, name: object) -> Path:
    """The file `name` in the header's own folder: a header must not make us read anything else.

    Raises
    ------
    InputError
        Where the name leads elsewhere, is a list or pattern of several files, or there is no such file.
    """
    name = str(name).strip()
    if PurePath(name).name != name or name in ("", ".", "..") or "\\" in name or "\0" in name:
        raise InputError(header, "voxels in another folder", "them in one file beside the header")
    if name.split()[0].upper() == "LIST" or "%" in name:
        raise InputError(header, "voxels in several files", "them in one file beside the header")
    path = header.parent / name
    if path.is_symlink() or not path.is_file():
        raise InputError(header, "the file with its voxels is missing", "it beside the header, under the name it gives")
    return path
