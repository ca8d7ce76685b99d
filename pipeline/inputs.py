"""From what a user names - files, folders, glob patterns - to the scans to read, and to the names of their results."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePath

from pipeline.errors import InputError
from pipeline.readers.content import ACCEPTED, ACCEPTED_STACKS, PICTURE_SUFFIXES, is_dicom_file, stack_content_of

#: What a scan inside a folder is known by; files of any other name are looked into, for DICOM often has none.
SUPPORTED_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom", ".ima", ".nii", ".nii.gz")
#: What a volume or a video inside a folder is known by.
STACK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd", ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".gif")


def find_scans(paths: Iterable[str | Path]) -> tuple[list[Path], list[InputError]]:
    """The scans that `paths` name, each once, in the order given; within a folder or pattern by name.

    A file that is named is taken whatever it is called: reading it tells what is wrong with it. Folders are searched
    with all below them, and so are folders that a pattern matches; hidden files, and what is no scan by its suffix or
    as DICOM by its content, are passed over there.

    Returns
    -------
    the scans, and an error for each path that does not exist, may not be searched, or holds no scan
    """
    return _find(paths, _scans_of_folder, SUPPORTED_SUFFIXES, ACCEPTED)


def find_inputs(paths: Iterable[str | Path], frames: bool = False) -> tuple[list[Path], list[InputError]]:
    """The scans, volumes and videos that `paths` name, as `find_scans` finds scans.

    A folder whose DICOM files are slices at different positions stands for itself: it is a volume. With `frames`, so
    does a folder of pictures.
    """
    of_folder = partial(_inputs_of_folder, frames=frames)
    return _find(paths, of_folder, SUPPORTED_SUFFIXES + STACK_SUFFIXES, f"{ACCEPTED}, or {ACCEPTED_STACKS}")


def find_files(paths: Iterable[str | Path]) -> tuple[list[Path], list[InputError]]:
    """The files of scans, volumes and videos that `paths` name, as `find_inputs`; the slices of a volume one by one."""
    suffixes, accepted = SUPPORTED_SUFFIXES + STACK_SUFFIXES, f"{ACCEPTED}, or {ACCEPTED_STACKS}"
    return _find(paths, _scans_of_folder, suffixes, accepted)


def is_stack(path: Path) -> bool:
    """Whether what `find_inputs` found has several slices or frames, by its header; what can't be read has not."""
    if path.is_dir():
        return True
    try:
        content = stack_content_of(path)
    except InputError:
        return False
    if content == "dicom":
        from pipeline.readers.dicom_frames import frame_count

        return frame_count(path) > 1
    if content == "nifti":
        from pipeline.readers.nifti_volume import shape_of

        shape = shape_of(path)
        return len(shape) > 3 or (len(shape) == 3 and min(shape) > 1)
    return True


def output_names(paths: Iterable[Path]) -> dict[Path, PurePath]:
    """Where the results of each scan go, below the folder of results: its stem, and no two the same.

    Of scans with the same stem, each keeps its folder below their common parent (`left/scan`, `right/scan`); those
    in the same folder keep their suffix too (`scan_png`, `scan_dcm`).
    """
    places = {path: Path(os.path.abspath(path)) for path in paths}
    groups: dict[str, list[Path]] = {}
    for path in places:
        groups.setdefault(stem_and_suffix(places[path])[0], []).append(path)
    names = {path: PurePath() for path in places}  # in the order of `paths`
    for stem, group in groups.items():
        common = os.path.commonpath([places[path].parent for path in group])
        in_folder = Counter(places[path].parent for path in group)
        for path in group:
            folder = places[path].parent
            alone = in_folder[folder] == 1
            names[path] = folder.relative_to(common) / (stem if alone else _flat_name(places[path]))
    return _without_clashes(names)


#: The inputs in a folder, given its path and the files that look like some.
_OfFolder = Callable[[Path, list[Path]], Iterable[Path]]


def _find(
    paths: Iterable[str | Path], of_folder: _OfFolder, suffixes: tuple[str, ...], accepted: str
) -> tuple[list[Path], list[InputError]]:
    found: dict[str, Path] = {}
    errors: list[InputError] = []
    for path in map(Path, paths):
        for scan in _expand(path, of_folder, suffixes, accepted, errors):
            found.setdefault(os.path.realpath(scan), scan)
    return list(found.values()), errors


def _expand(
    path: Path, of_folder: _OfFolder, suffixes: tuple[str, ...], accepted: str, errors: list[InputError]
) -> Iterator[Path]:
    if not path.is_dir() and (os.path.lexists(path) or not glob.has_magic(str(path))):
        yield from _existing(path, accepted, errors)
        return
    if path.is_dir():
        matches, lacking = [path], "a folder without any scan"
    else:
        matches, lacking = map(Path, sorted(glob.glob(str(path), recursive=True))), "a pattern that matches no scan"
    empty = True
    for match in matches:
        if match.is_dir():
            scans = _scans_below(match, of_folder, suffixes, errors)
        else:
            scans = [match] if _looks_like_scan(match, suffixes) else []
        for scan in scans:
            empty = False
            yield scan
    if empty:
        errors.append(InputError(path, lacking, accepted))


def _existing(path: Path, accepted: str, errors: list[InputError]) -> Iterator[Path]:
    if os.path.exists(path):
        yield path
    else:
        errors.append(InputError(path, "no such file or folder", accepted))


def _scans_below(
    folder: Path, of_folder: _OfFolder, suffixes: tuple[str, ...], errors: list[InputError]
) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        errors.append(InputError(error.filename, f"can't be searched ({error.strerror})", "a folder that you may read"))

    for current, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = [Path(current, name) for name in sorted(files) if not name.startswith(".")]
        yield from of_folder(Path(current), [path for path in paths if _looks_like_scan(path, suffixes)])


def _scans_of_folder(folder: Path, scans: list[Path]) -> list[Path]:
    return scans


def _inputs_of_folder(folder: Path, scans: list[Path], frames: bool) -> Iterator[Path]:
    """The folder itself where it is a volume or, with `frames`, a video; and all that is no part of that."""
    parts: set[Path] = set()
    if sum(map(is_dicom_file, scans)) > 1:
        from pipeline.readers.dicom_series import slices_of_volume

        parts.update(slices_of_volume(folder))
    if frames and not parts:
        parts.update(path for path in scans if path.suffix.lower() in PICTURE_SUFFIXES)
    if parts:
        yield folder
    yield from (path for path in scans if path not in parts)


def _looks_like_scan(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.name.lower().endswith(suffixes) or is_dicom_file(path)


def stem_and_suffix(path: Path) -> tuple[str, str]:
    """Only a known suffix is one: a DICOM file is often called by its UID, `1.2.840.113619.2`."""
    for suffix in sorted(SUPPORTED_SUFFIXES + STACK_SUFFIXES, key=len, reverse=True):
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)], path.name[-len(suffix) :]
    return path.name, ""


def _flat_name(path: Path) -> str:
    stem, suffix = stem_and_suffix(path)
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
