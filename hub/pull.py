"""Fetch a release from the Hub, whole or one precision of it, into the Hub's cache or a folder."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from hub.errors import WeightsError
from hub.files import replace_path
from hub.reference import Reference
from hub.release import CARD, MANIFEST, Release
from hub.resolve import resolve_on_hub


def pull(reference: Reference, precision: str | None = None, to: Path | None = None) -> Release:
    """Fetch and check every file of a release, or those that one precision needs -> the release, where it now is.

    All files lie checked in the Hub's cache before the first one is put into the folder `to`, and its manifest.json
    comes last: a folder that has one is a release. What is there already is not fetched again, so a pull that was
    stopped goes on where it was.

    Raises WeightsError where the release can't be had, or where `to` holds something else.
    """
    release = resolve_on_hub(reference)
    names = names_of(release, precision)
    if to is not None:
        _check_target(to, release)
    files = {name: release.file(name) for name in names}
    card = _card(release)
    if to is None:
        return release
    if card:
        files[CARD] = card
    _put(files | {MANIFEST: release.folder / MANIFEST}, to)
    return Release.open(to)


def names_of(release: Release, precision: str | None) -> list[str]:
    """The files that one precision needs; all of them without one. Raises WeightsError for one that is not there."""
    listed = list(release.manifest["files"])
    if precision is None:
        return listed
    if precision not in release.precisions:
        held = ", ".join(release.precisions) or "no precision at all"
        raise WeightsError(f"{release.folder}: release {release.version} has no {precision}; it holds {held}.")
    return [name for name in listed if name == "config.json" or name.startswith(f"onnx/{precision}/")]


def _card(release: Release) -> Path | None:
    try:
        return release.fetch(CARD)
    except WeightsError:  # a release runs without its card
        return None


def _check_target(folder: Path, release: Release) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise WeightsError(f"{folder}: a file; expected a folder, or a name that is not taken.")
    if not (folder / MANIFEST).exists():
        strange = [
            path
            for path in folder.rglob("*")
            if path.is_file()
            and path.relative_to(folder).as_posix() not in (*release.manifest["files"], CARD)
            and not path.name.startswith(".")
        ]
        if strange:
            raise WeightsError(f"{folder}: holds {strange[0].name}, which is no release; expected an empty folder.")
        return
    there = Release.open(folder)
    if there.sha256 != release.sha256:
        raise WeightsError(f"{folder}: holds release {there.version}, not the same as asked for; name another folder.")


def _put(files: dict[str, Path], folder: Path) -> None:
    try:
        for name, path in files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with replace_path(target) as temporary:
                shutil.copyfile(path, temporary)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            needed = sum(path.stat().st_size for path in files.values()) / 1e6
            said = f"the disk is full, and {needed:.0f} MB are needed; free some space, then run again"
            raise WeightsError(f"{folder}: {said}.") from error
        raise WeightsError(f"{folder}: can't be written ({error.strerror or error}).") from error
