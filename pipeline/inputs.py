"""From what a user names - files, folders, glob patterns - to the scans to read, and to the names of their results."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from pipeline.errors import InputError
from pipeline.readers.content import ACCEPTED, is_dicom

#: What a scan inside a folder is known by; files of any other name are looked into, for DICOM often has none.
SUPPORTED_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom", ".ima", ".nii", ".nii.gz")
_DICOM_HEAD_BYTES = 136


def find_scans(paths: Iterable[str | Path]) -> tuple[list[Path], list[InputError]]:
    """The scans that `paths` name, each once, in the order given; within a folder or pattern by name.

    A file that is named is taken whatever it is called: reading it tells what is wrong with it. Folders are searched
    with all below them, and so are folders that a pattern matches; hidden files, and what is no scan by its suffix or
    as DICOM by its content, are passed over there.

    Returns
    -------
    the scans, and an error for each path that does not exist, may not be searched, or holds no scan
    """
    found: dict[str, Path] = {}
    errors: list[InputError] = []
    for path in map(Path, paths):
        for scan in _expand(path, errors):
            found.setdefault(os.path.realpath(scan), scan)
    return list(found.values()), errors


def output_names(paths: Iterable[Path]) -> dict[Path, PurePath]:
    """Where the results of each scan go, below the folder of results: its stem, and no two the same.

    Of scans with the same stem, each keeps its folder below their common parent (`left/scan`, `right/scan`); those
    in the same folder keep their suffix too (`scan_png`, `scan_dcm`).
    """
    places = {path: Path(os.path.abspath(path)) for path in paths}
    groups: dict[str, list[Path]] = {}
    for path in places:
        groups.setdefault(_stem_and_suffix(path)[0], []).append(path)
    names = {path: PurePath() for path in places}  # in the order of `paths`
    for stem, group in groups.items():
        common = os.path.commonpath([places[path].parent for path in group])
        in_folder = Counter(places[path].parent for path in group)
        for path in group:
            folder = places[path].parent
            alone = in_folder[folder] == 1
            names[path] = folder.relative_to(common) / (stem if alone else _flat_name(path))
    return _without_clashes(names)


def _expand(path: Path, errors: list[InputError]) -> Iterator[Path]:
    if path.is_dir():
        scans = list(_scans_below(path, errors))
        if not scans:
            errors.append(InputError(path, "a folder without any scan", ACCEPTED))
        yield from scans
    elif os.path.lexists(path) or not glob.has_magic(str(path)):
        yield from _existing(path, errors)
    else:
        matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
        scans = [scan for match in matches for scan in _matched(match, errors)]
        if not scans:
            errors.append(InputError(path, "a pattern that matches no scan", ACCEPTED))
        yield from scans


def _existing(path: Path, errors: list[InputError]) -> Iterator[Path]:
    if os.path.exists(path):
        yield path
    else:
        errors.append(InputError(path, "no such file or folder", ACCEPTED))


def _matched(path: Path, errors: list[InputError]) -> Iterator[Path]:
    if path.is_dir():
        yield from _scans_below(path, errors)
    elif _looks_like_scan(path):
        yield path


def _scans_below(folder: Path, errors: list[InputError]) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        errors.append(InputError(error.filename, f"can't be searched ({error.strerror})", "a folder that you may read"))

    for current, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(current, name)
            if not name.startswith(".") and _looks_like_scan(path):
                yield path


def _looks_like_scan(path: Path) -> bool:
    if path.name.lower().endswith(SUPPORTED_SUFFIXES):
        return True
    try:
        if not path.is_file() or path.name.upper() == "DICOMDIR":  # a DICOMDIR lists scans and holds none
            return False
        with path.open("rb") as stream:
            return is_dicom(stream.read(_DICOM_HEAD_BYTES))
    except OSError:
        return False


def _stem_and_suffix(path: Path) -> tuple[str, str]:
    """Only a known suffix is one: a DICOM file is often called by its UID, `1.2.840.113619.2`."""
    for suffix in sorted(SUPPORTED_SUFFIXES, key=len, reverse=True):
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)], path.name[-len(suffix) :]
    return path.name, ""


def _flat_name(path: Path) -> str:
    stem, suffix = _stem_and_suffix(path)
    return stem + suffix.replace(".", "_")


def _without_clashes(names: dict[Path, PurePath]) -> dict[Path, PurePath]:
    """Number what is still the same, as `a.png`, `a.dcm` and `a_png.dcm` are in one folder."""
    taken: set[PurePath] = set()
    unique = {}
    for path, name in names.items():
        candidate, number = name, 2
        while candidate in taken:
            candidate, number = name.with_name(f"{name.name}_{number}"), number + 1
        taken.add(candidate)
        unique[path] = candidate
    return unique
