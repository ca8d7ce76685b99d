"""From what a user names - folders, patterns, tables of paths, URLs - to the inputs of a batch, in a fixed order."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.batch.places import is_url, list_files, open_place
from pipeline.batch.series import DicomHeader, read_dicom_header
from pipeline.batch.threads import map_in_threads
from pipeline.errors import InputError
from pipeline.inputs import STACK_SUFFIXES, SUPPORTED_SUFFIXES, find_files, stem_and_suffix

#: What a table of paths may call its column of paths.
_COLUMNS = ("path", "input", "file", "filename", "uri", "url")
_TABLES = (".csv", ".parquet")
_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
#: Headers whose voxels may lie in a file beside them, and the line that names it.
_HEADERS = (".nrrd", ".nhdr", ".mha", ".mhd")
_BESIDE = re.compile(rb"^(?:data ?file\s*:=?|ElementDataFile\s*=)[ \t]*([^\r\n]+)", re.MULTILINE)
_HEADER_BYTES = 1 << 16
#: A file's name has 255 bytes at most, here and there fewer.
_STEM_BYTES = 160
#: Files that are looked into at the same time, of which most of the time is waiting for a disk or a network.
_LOOKS = 16


@dataclass(frozen=True)
class Input:
    """What gets one answer.

    Attributes
    ----------
    name : as the tables call it: the path or URL as the user named it; of a series its folder or its first file
    files : absolute local paths or URLs, the one to read first; of a series its slices by name
    is_folder : whether the files are read together, as a folder
    """

    name: str
    files: tuple[str, ...]
    is_folder: bool = False

    @property
    def stem(self) -> str:
        """What its result files begin with: valid UTF-8, and no longer than leaves room for their endings."""
        path = PurePosixPath(self.name.partition("://")[2] or self.name)
        stem = stem_and_suffix(Path(path.name))[0].encode("utf-8", "surrogateescape")[:_STEM_BYTES]
        return stem.decode("utf-8", "replace").replace("\ufffd", "_") or "input"


def list_inputs(words: Iterable[str], without: Path | None = None) -> list[Input | InputError]:
    """The inputs that words name, each once, and in their places the errors of words that lead to none.

    DICOM files of one series that lie in one folder at different positions are one input. What lies in the folder
    `without` is none: it holds the results of an earlier run.
    """
    results = without and os.path.join(os.path.realpath(without), "")
    found: dict[str, str | InputError] = {}
    for word in words:
        for place in _expand(word):
            key = place.subject if isinstance(place, InputError) else _identity(place)
            if not (results and key.startswith(results)):
                found.setdefault(key, place)
    return list(_grouped(list(found.values())))


def _identity(place: str) -> str:
    return place if is_url(place) else os.path.realpath(place)


def _expand(word: str) -> Iterator[str | InputError]:
    """The files that a word leads to; tables of paths are followed."""
    try:
        if word.lower().endswith(_TABLES):
            # each of a hundred thousand URLs is a request
            for files in map_in_threads(lambda entry: list(_files_of(entry)), read_path_table(word), _LOOKS):
                yield from files
        else:
            yield from _files_of(word)
    except InputError as error:
        yield error


def _files_of(word: str) -> Iterator[str | InputError]:
    try:
        if not is_url(word):
            files, errors = find_files([word])
            yield from map(str, files)
            yield from errors
            return
        files = list_files(word)
        yield from files if files == [word] else _scans_among(word, files)
    except InputError as error:
        yield error


def _scans_among(word: str, files: list[str]) -> Iterator[str]:
    """What looks like a scan, a volume or a video, as in a local folder."""
    known = SUPPORTED_SUFFIXES + STACK_SUFFIXES
    shown = [file for file in files if not PurePosixPath(file).name.startswith(".")]
    strange = [file for file in shown if not file.lower().endswith(known)]
    headers = map_in_threads(read_dicom_header, strange, _LOOKS)
    dicom = {file for file, header in zip(strange, headers, strict=True) if header}
    scans = [file for file in shown if file.lower().endswith(known) or file in dicom]
    if not scans:
        raise InputError(word, "a place without any scan", f"files of {', '.join(known)}, or DICOM")
    yield from scans


def read_path_table(place: str) -> list[str]:
    """The paths that a CSV or Parquet table lists; relative ones are taken from the table's folder.

    Raises
    ------
    InputError
        Where it can't be read, or has no column of paths.
    """
    with open_place(place) as stream:
        data = stream.read()
    try:
        columns = _csv_columns(data) if place.lower().endswith(".csv") else _parquet_columns(data)
    except (ValueError, OSError, csv.Error):
        raise InputError(place, "not a table that can be read", "CSV (UTF-8) with a heading, or Parquet") from None
    names = {name.strip().lower(): name for name in columns}
    chosen = next((names[name] for name in _COLUMNS if name in names), None)
    if chosen is None:
        listed = ", ".join(list(columns)[:10]) or "none"
        raise InputError(place, f"a table with the columns {listed}", f"a column called {', '.join(_COLUMNS)}")
    folder = place.rpartition("/")[0]
    entries = [str(entry).strip() for entry in columns[chosen] if entry is not None]
    return [_below(folder, entry) for entry in entries if entry]


def _csv_columns(data: bytes) -> dict[str, list[str]]:
    heading, *rows = csv.reader(io.StringIO(data.decode("utf-8-sig")))
    return {name: [row[place] for row in rows if place < len(row)] for place, name in enumerate(heading)}


def _parquet_columns(data: bytes) -> dict[str, list]:
    from pyarrow import parquet

    return parquet.read_table(io.BytesIO(data)).to_pydict()


def _below(folder: str, entry: str) -> str:
    if is_url(entry) or os.path.isabs(entry) or not folder:
        return entry
    return f"{folder}/{entry}"


def _grouped(places: Sequence[str | InputError]) -> Iterator[Input | InputError]:
    """Files as inputs: slices of a series together, a header with the file of its voxels."""
    maybe = [place for place in places if isinstance(place, str) and _may_be_dicom(place)]
    headers = dict(zip(maybe, map_in_threads(read_dicom_header, maybe, _LOOKS), strict=True))
    series, given = _series(headers), set()
    for place in places:
        if isinstance(place, InputError):
            yield place
        elif place not in series:
            yield Input(place, tuple(map(_anywhere, (place, *_beside(place)))))
        elif series[place] not in given:
            given.add(series[place])
            yield series[place]


def _anywhere(place: str) -> str:
    """A place that means the same to a worker in another folder."""
    return place if is_url(place) else os.path.abspath(place)


def _may_be_dicom(place: str) -> bool:
    name = place.lower()
    return name.endswith(_DICOM_SUFFIXES) or not name.endswith(SUPPORTED_SUFFIXES + STACK_SUFFIXES)


def _series(headers: dict[str, DicomHeader | None]) -> dict[str, Input]:
    """File -> the volume that it is a slice of."""
    folders: dict[str, dict[str, list[str]]] = {}
    for file, header in headers.items():
        if header and header.is_slice:
            folders.setdefault(file.rpartition("/")[0], {}).setdefault(header.series, []).append(file)
    found = {}
    for folder, groups in folders.items():
        for files in groups.values():
            positions = [headers[file].position for file in files if headers[file].position]
            if any(_apart(positions[0], other) for other in positions[1:]):
                alone = len(groups) == 1
                name = (folder or ".") if alone else f"{min(files)} (+{len(files) - 1})"
                volume = Input(name, tuple(map(_anywhere, sorted(files))), is_folder=True)
                found.update(dict.fromkeys(files, volume))
    return found


def _apart(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether two slices lie at different positions, mm."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) > 1e-3


def _beside(place: str) -> list[str]:
    """The file of the voxels that a header names, where it stands alone; the reader says what is wrong with it."""
    if not place.lower().endswith(_HEADERS):
        return []
    try:
        with open_place(place, look=True) as stream:
            named = _BESIDE.search(stream.read(_HEADER_BYTES).partition(b"\n\n")[0])
        name = named and os.fsdecode(named[1].strip())
        if not name or name.lower() == "local" or "/" in name or "\\" in name:
            return []
        beside = f"{place.rpartition('/')[0]}/{name}" if "/" in place else name
        with open_place(beside, look=True):
            return [beside]
    except InputError:
        return []
