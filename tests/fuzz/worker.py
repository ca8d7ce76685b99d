"""One process of the pool: makes inputs by their numbers, gives them to the readers, and says what came of each.

It reads lines of JSON, {"kind", "number"}, and answers each with "begun" and then a line of JSON. What the readers
print, and what they leave in the folders of results and of temporary files, counts as a fault.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from hub.errors import WeightsError
from pipeline.errors import InputError
from tests.fuzz.bombs import bombs_of
from tests.fuzz.mutations import mutated
from tests.fuzz.seeds import Seed, seeds_of
from tests.fuzz.takers import take

BEGUN = "begun"
#: Address space: beyond it python raises, so that the machine lives. The limit of memory is watched from outside.
_ADDRESS_SPACE = 12 << 30
_MOST_LETTERS = 500


def input_of(kind: str, number: int, seed: int) -> Seed:
    """Input `number` of a kind: first its bombs, then its seeds as they are, then mutations."""
    bombs, seeds = bombs_of(kind) if number < bomb_count(kind) else (), seeds_of(kind)
    if bombs:
        return bombs[number]
    number -= bomb_count(kind)
    if number < len(seeds):
        return seeds[number]
    chance = random.Random(f"{seed} {kind} {number}")
    return mutated(chance.choice(seeds), seeds, kind, chance)


def bomb_count(kind: str) -> int:
    from tests.fuzz.bombs import _BOMBS

    return len(_BOMBS.get(kind, ()))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    (work / "tmp").mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = os.environ["TMPDIR"] = str(work / "tmp")
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    for shown in (UserWarning, RuntimeWarning, SyntaxWarning, FutureWarning):
        warnings.filterwarnings("always", category=shown)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    printed = (work / "printed").open("w+b")
    os.dup2(printed.fileno(), 1)
    os.dup2(printed.fileno(), 2)
    for line in sys.stdin:
        asked = json.loads(line)
        found = input_of(asked["kind"], asked["number"], arguments.seed)
        _taken(printed)  # of what made it
        folder, out = work / "in", work / "out"
        for each in (folder, out, work / "tmp"):
            shutil.rmtree(each, ignore_errors=True)
            each.mkdir()
        for name, content in found.files.items():
            (folder / name).write_bytes(content)
        del content
        gc.collect()
        _forget_peak()
        print(BEGUN, file=answers)
        start, busy = time.perf_counter(), time.process_time()
        told = _outcome(asked["kind"], found, folder, out)
        told |= {"seconds": time.perf_counter() - start, "busy_seconds": time.process_time() - busy}
        gc.collect()
        told |= {"peak_mb": _peak_mb(), "name": found.name, "printed": _taken(printed)}
        told["left"] = [path.name for path in (work / "tmp").iterdir()] + _half_written(out)
        print(json.dumps(told), file=answers)


def _outcome(kind: str, found: Seed, folder: Path, out: Path) -> dict:
    try:
        return {"outcome": "good", "pixels": take(kind, found, folder, out)}
    except (InputError, WeightsError) as error:
        said = str(error)
        fault = _fault_of(said, error, kind, folder)
        if fault:
            return {"outcome": "fault", "said": fault, "trace": said}
        return {"outcome": "refused", "said": said.replace(str(folder), "")}
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return {"outcome": "fault", "said": f"{type(error).__name__}: {error}"[:300], "trace": traceback.format_exc()}


def _fault_of(said: str, error: Exception, kind: str, folder: Path) -> str | None:
    """What is wrong with a sentence."""
    if len(said.splitlines()) != 1 or not said.isprintable():
        return f"a sentence of several lines or with strange letters: {said[:100]!r}"
    if len(said.replace(str(folder), "")) > _MOST_LETTERS:
        return f"a sentence of {len(said)} letters: {said[:100]!r}"
    if isinstance(error, InputError) and kind not in ("edits", "coco", "zip") and str(folder) not in error.subject:
        return f"a sentence that does not name the input: {said!r}"
    return None


def _half_written(out: Path) -> list[str]:
    """Hidden parts; and of a record or its companions one without the other."""
    names = sorted(path.name for path in out.rglob("*"))
    parts = [name for name in names if name.startswith(".")]
    if names and not any(name.endswith(".json") for name in names):
        parts += names
    return parts


def _taken(printed) -> str:
    """What was printed since the last time."""
    sys.stdout.flush()
    sys.stderr.flush()
    printed.seek(0)
    text = printed.read().decode("utf-8", "replace")
    printed.truncate(0)
    printed.seek(0)
    return text[:2000]


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


if __name__ == "__main__":
    main()
