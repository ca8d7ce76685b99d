"""One version of the weights: a folder with config.json, manifest.json and the files that the manifest lists.

The folder is laid out the same in this repository, on a disk and on the Hub:

    README.md                    the model card, generated, not listed
    config.json                  classes, input sizes, thresholds
    manifest.json                version, bytes and sha256 of every file, training data, figures
    onnx/<precision>/*.onnx      what inference runs
    training/*.safetensors       what fine-tuning starts from
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from hub.cache import forget
from hub.checks import SCHEMA, check_config, check_manifest, check_name
from hub.errors import WeightsError
from hub.files import replace_file

MANIFEST, CARD = "manifest.json", "README.md"
#: Generated from the others, so not listed in the manifest.
UNLISTED = (MANIFEST, CARD)

#: The default first.
PRECISIONS = ("int8", "int4", "fp32", "fp16")


@dataclass(frozen=True)
class Release:
    """Weights whose manifest and config were checked; each file is checked when it is asked for.

    Attributes
    ----------
    folder : where the files are
    version : of the weights, such as '0.1.0'
    config : config.json
    manifest : manifest.json
    sha256 : hex digest of manifest.json; with the digests inside it, it names every byte of the release
    fetch : brings a file of a Hub release to this machine, name -> path; None where the folder holds them all
    commit : of the Hub repository that it comes from; None where it comes from a folder
    """

    folder: Path
    version: str
    config: dict
    manifest: dict
    sha256: str
    fetch: Callable[[str], Path] | None = field(default=None, repr=False, compare=False)
    commit: str | None = None

    @classmethod
    def open(cls, folder: str | Path, fetch: Callable[[str], Path] | None = None, commit: str | None = None) -> Release:
        """Read and check manifest.json and config.json of `folder`. Raises WeightsError."""
        folder = Path(folder)
        raw = _read(folder / "manifest.json")
        manifest = _parse(folder / "manifest.json", raw)
        check_manifest(folder / "manifest.json", manifest)
        release = cls(folder, manifest["version"], {}, manifest, hashlib.sha256(raw).hexdigest(), fetch, commit)
        path = release.file("config.json")
        config = _parse(path, _read(path))
        check_config(path, config)
        return replace(release, config=config)

    @property
    def files_sha256(self) -> str:
        """Hex digest of the list of files: it stays the same when new figures enter the manifest."""
        return hashlib.sha256(json.dumps(self.manifest["files"], sort_keys=True).encode()).hexdigest()

    @property
    def precisions(self) -> tuple[str, ...]:
        """Names of the precisions that the release holds, the default first: ('int8', 'fp32')."""
        return _precisions(self.manifest["files"])

    @property
    def identity(self) -> dict[str, str]:
        """What a result records of its weights: version, sha256, and the commit where they come from the Hub."""
        commit = {"commit": self.commit} if self.commit else {}
        return {"version": self.version, "sha256": self.sha256, **commit}

    def file(self, name: str) -> Path:
        """Path of a listed file, 'onnx/int8/detector.onnx', after its size and sha256 were checked.

        Raises WeightsError where the manifest does not list it, or where the file is missing or not the listed one.
        """
        listed = self.manifest["files"].get(name)
        if listed is None:
            held = ", ".join(self.precisions) or "no precision at all"
            raise WeightsError(f"{self.folder}: release {self.version} has no {name}; it holds {held}.")
        path = self.fetch(name) if self.fetch else self.folder / name
        # The Hub's cache links its files to a folder of blobs beside; elsewhere a link may not lead out.
        if not self.fetch and not path.resolve().is_relative_to(self.folder.resolve()):
            raise WeightsError(f"{path}: a link that leads out of the release; put the file itself there.")
        found = file_entry(path)
        for what in ("bytes", "sha256"):
            if found[what] != listed[what]:
                if self.fetch:
                    forget(path)
                remedy = "It was taken out of the cache; run again." if self.fetch else "Get it again."
                raise WeightsError(
                    f"{path}: {what} {found[what]}, but the manifest says {listed[what]}; the file is damaged or was"
                    f" changed. {remedy}"
                )
        return path


def file_entry(path: Path) -> dict[str, int | str]:
    """`{"bytes": n, "sha256": hex}` of a file, as the manifest lists it. Raises WeightsError where it can't be read."""
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"bytes": file.tell(), "sha256": digest}
    except OSError as error:
        raise WeightsError(_unreadable(path, error)) from error


def write_manifest(
    folder: str | Path,
    *,
    version: str,
    revision: str,
    trained_on: Mapping,
    figures: Mapping | None = None,
    license: str = "CC-BY-NC-SA-4.0",
    notes: Mapping[str, str] | None = None,
    created: str | None = None,
    licenses: Mapping[str, Mapping[str, str]] | None = None,
) -> Release:
    """List every file of `folder` in its manifest.json, and open the result.

    Parameters
    ----------
    version
        Of the weights, such as '0.1.0'.
    revision
        The git revision of the code that made them.
    trained_on
        `{"sources": {name: {"images": n, ...}}, "detector": sentence, "segmenter": sentence}`; all parts may be absent.
    figures
        What was measured, in the layout of `hub.card.figures_table`; None where nothing was.
    notes
        A sentence a precision, such as `{"fp32": "Stored as float16, computed in float32."}`.
    created
        ISO date and time; now by default.
    licenses
        Of networks that came from elsewhere: `{"segmenter": {"license": "CC-BY-SA-4.0", "source": sentence}}`.

    Raises WeightsError for a file that does not belong into a release, such as a pickle.
    """
    folder = Path(folder)
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_dir() or hidden or name in UNLISTED:
            continue
        check_name(folder, name)
        files[name] = file_entry(path)
    precisions = {}
    for precision in _precisions(files):
        bytes_ = sum(entry["bytes"] for name, entry in files.items() if name.startswith(f"onnx/{precision}/"))
        note = {"note": notes[precision]} if notes and precision in notes else {}
        precisions[precision] = {"bytes": bytes_, **note}
    manifest = {
        "schema": SCHEMA,
        "version": version,
        "created": created or datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": revision,
        "license": license,
        **({"licenses": {name: dict(part) for name, part in licenses.items()}} if licenses else {}),
        "precisions": precisions,
        "files": files,
        "trained_on": dict(trained_on),
        "figures": dict(figures or {}),
    }
    check_manifest(folder / "manifest.json", manifest)
    _write_json(folder / "manifest.json", manifest)
    return Release.open(folder)


def write_figures(folder: str | Path, figures: Mapping) -> Release:
    """Put newly measured figures into the manifest of a release, and open the result. The weights stay as they are."""
    release = Release.open(folder)
    if not isinstance(figures, Mapping):
        raise WeightsError(f"{folder}: figures are a {type(figures).__name__}; expected an object.")
    _write_json(release.folder / "manifest.json", release.manifest | {"figures": dict(figures)})
    return Release.open(folder)


def _precisions(files: Mapping) -> tuple[str, ...]:
    parts = (name.split("/") for name in files)
    return tuple(sorted({part[1] for part in parts if part[0] == "onnx" and len(part) == 3}, key=precision_rank))


def precision_rank(precision: str) -> tuple[int, str]:
    """Sorts precisions the way they are offered: `PRECISIONS`, then any others by name."""
    return (PRECISIONS.index(precision) if precision in PRECISIONS else len(PRECISIONS)), precision


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(_unreadable(path, error)) from error


def _parse(path: Path, raw: bytes) -> dict:
    try:
        parsed = json.loads(raw)
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise WeightsError(f"{path}: not valid JSON ({error}).") from error
    if not isinstance(parsed, dict):
        raise WeightsError(f"{path}: a JSON {type(parsed).__name__}; expected an object.")
    return parsed


def json_text(content: Mapping) -> str:
    """JSON as a release holds it."""
    # allow_nan=False: NaN is no JSON, and a figure that is NaN was not measured.
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _write_json(path: Path, content: Mapping) -> None:
    text = json_text(content)
    with replace_file(path) as file:
        file.write(text)


def _unreadable(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"{path}: no such file; expected a release with config.json, manifest.json and the files it lists."
    return f"{path}: can't be read ({error.strerror or error})."
