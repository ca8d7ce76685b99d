"""From what a visitor uploads to what `read_stack` takes: a file, or a folder of the slices or frames of one series."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.errors import InputError
from pipeline.readers.content import DAMAGE

_ONE_SERIES = "a volume, a video, or the slices of one DICOM series, as files or zipped"
#: What a ZIP may hold, unpacked. A small one can hold far more than it seems to.
_MOST_FILES, _MOST_BYTES = 5000, 2_000_000_000


@contextmanager
def upload(paths: Sequence[str | Path]) -> Iterator[Path]:
    """Several files, or a ZIP, as a folder that is gone afterwards; one other file as it is.

    Raises
    ------
    InputError
        For a ZIP that is damaged, encrypted, or holds too much.
    """
    paths = [Path(path) for path in paths]
    if len(paths) == 1 and not _is_zip(paths[0]):
        yield paths[0]
        return
    with TemporaryDirectory(prefix="series-") as work:
        # the folder's name becomes the results' name
        folder = Path(work, paths[0].stem if len(paths) == 1 else "series")
        folder.mkdir()
        if len(paths) == 1:
            _unpack(paths[0], folder)
        else:
            for path, name in zip(paths, _apart([path.name for path in paths]), strict=True):
                _link(path, folder / name)
        yield folder


def _is_zip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"


def _unpack(path: Path, folder: Path) -> None:
    """Every file of the archive into one folder, whatever folders it has inside."""
    try:
        with zipfile.ZipFile(path) as archive:
            files = [entry for entry in archive.infolist() if not entry.is_dir() and not _is_of_the_system(entry)]
            if len(files) > _MOST_FILES:
                raise InputError(path.name, f"a ZIP of {len(files)} files", f"at most {_MOST_FILES}")
            if sum(entry.file_size for entry in files) > _MOST_BYTES:
                raise InputError(path.name, "a ZIP of a large series", f"at most {_MOST_BYTES // 10**6} MB unpacked")
            names = _apart([Path(entry.filename).name for entry in files])
            for entry, name in zip(files, names, strict=True):
                with archive.open(entry) as source, (folder / name).open("wb") as copy:
                    shutil.copyfileobj(source, copy)
    except (zipfile.BadZipFile, *DAMAGE) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(path.name, "a ZIP that is damaged or encrypted", _ONE_SERIES) from None


def _apart(names: list[str]) -> list[str]:
    """Names in one folder: where two are the same all are numbered, else they stay, for frames go by their names."""
    return names if len(set(names)) == len(names) else [f"{at:05d}_{name}" for at, name in enumerate(names)]


def _is_of_the_system(entry: zipfile.ZipInfo) -> bool:
    """What macOS puts beside the files, and what is hidden."""
    return entry.filename.startswith("__MACOSX/") or Path(entry.filename).name.startswith(".")


def _link(path: Path, target: Path) -> None:
    try:
        target.hardlink_to(path)
    except OSError:  # another disk
        shutil.copyfile(path, target)
