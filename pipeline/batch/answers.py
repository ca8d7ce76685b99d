"""What is known of each input, on the disk under the sha256 of its content: its results, or why there are none.

    files/3f/3fa4.../scan.json, scan_mask.png, scan_overlay.png     the results, as `segment` names them
    failed/3f/3fa4....json                                          a sentence, where it can't be segmented

A folder of results takes its place whole, by renaming, so where it stands the input is done.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hub.files import replace_file
from pipeline.errors import InputError

_RESULTS, _FAILED = "files", "failed"


class Unwritable(InputError):
    """Nothing can be written to the folder of the results: no input's fault, and the end of the run."""


def results_folder(out: Path, sha256: str) -> Path:
    """Where the results of an input with this content lie."""
    return out / _RESULTS / sha256[:2] / sha256


def is_done(out: Path, sha256: str) -> bool:
    """Whether there are results. Where the machine lost its power, files may be there and empty: those are none."""
    return any(path.stat().st_size for path in results_folder(out, sha256).glob("*.json"))


def has_failed(out: Path, sha256: str) -> bool:
    path = _failure_file(out, sha256)
    return path.is_file() and path.stat().st_size > 0


def is_answered(out: Path, sha256: str) -> bool:
    return is_done(out, sha256) or has_failed(out, sha256)


@contextmanager
def new_results(out: Path, sha256: str) -> Iterator[Path]:
    """A folder to write results into; they take their place when the block ends well, unless they were there before.

    Raises
    ------
    Unwritable
        Where it can't be made, or renamed.
    """
    final = results_folder(out, sha256)
    part = final.with_name(f".{sha256[:16]}.{secrets.token_hex(8)}.part")
    if not is_done(out, sha256):
        shutil.rmtree(final, ignore_errors=True)
    with _writing(out):
        part.mkdir(parents=True)
    try:
        yield part
        with _writing(out):
            try:
                part.rename(final)
            except OSError:
                if not is_done(out, sha256):
                    raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read_record(out: Path, sha256: str) -> tuple[dict, str]:
    """The JSON of an input that is done, and where it lies below `out`."""
    [path] = results_folder(out, sha256).glob("*.json")
    return json.loads(path.read_text("utf-8")), path.relative_to(out).as_posix()


def write_failure(out: Path, sha256: str, name: str, error: InputError) -> None:
    """Keep why an input can't be segmented. `name` is what the error calls it."""
    path = _failure_file(out, sha256)
    with _writing(out):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path) as file:
            json.dump({"input": name, "problem": error.problem, "sentence": " ".join(str(error).split())}, file)


def read_failure(out: Path, sha256: str) -> dict[str, str]:
    """{'input', 'problem', 'sentence'} of an input that failed."""
    return json.loads(_failure_file(out, sha256).read_text("utf-8"))


def forget_failures(out: Path) -> None:
    """So that they are tried again."""
    shutil.rmtree(out / _FAILED, ignore_errors=True)


def remove_parts(out: Path) -> None:
    """What a killed run left half-written. Only where no other run is at work in `out`."""
    for part in (out / _RESULTS).glob("*/.*.part"):
        shutil.rmtree(part, ignore_errors=True)
    for part in (out / _FAILED).glob("*/.*.part*"):
        part.unlink(missing_ok=True)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise Unwritable(out, f"can't be written to ({reason})", "a folder with write permission and room") from error


def _failure_file(out: Path, sha256: str) -> Path:
    return out / _FAILED / sha256[:2] / f"{sha256}.json"
