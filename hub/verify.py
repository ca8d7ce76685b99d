"""Whether a release is what its manifest says, file by file."""

from __future__ import annotations

from pathlib import Path

from hub.errors import WeightsError
from hub.release import UNLISTED, Release


def faults_of(release: Release) -> list[str]:
    """One sentence a fault: a file that is missing, damaged, or in the folder without being listed."""
    faults = _unlisted(release)
    absent = absent_parts(release)
    for name in release.manifest["files"]:
        if part_of(name) in absent:
            continue
        try:
            release.file(name)
        except WeightsError as error:
            faults.append(str(error))
    return faults


def absent_parts(release: Release) -> tuple[str, ...]:
    """Parts that are not in the folder at all, such as 'onnx/fp32' and 'training' where int8 alone was pulled."""
    if release.fetch is not None:
        return ()
    listed, here = {}, set()
    for name in release.manifest["files"]:
        listed[part_of(name)] = True
        if (release.folder / name).exists():
            here.add(part_of(name))
    return tuple(part for part in listed if part and part not in here)


def part_of(name: str) -> str:
    """The folder of a file: 'onnx/int8/detector.onnx' -> 'onnx/int8'; '' for config.json."""
    return name.rpartition("/")[0]


def _unlisted(release: Release) -> list[str]:
    if release.fetch is not None:  # the Hub's cache holds what was asked for, no more
        return []
    names = (path.relative_to(release.folder) for path in sorted(Path(release.folder).rglob("*")) if path.is_file())
    return [
        f"{release.folder / name}: not listed in the manifest."
        for name in names
        if name.as_posix() not in (*release.manifest["files"], *UNLISTED) and not name.parts[0].startswith(".")
    ]
