"""Cold starts and peak memory: one image in a process of its own.

Peak memory is the process' VmHWM. A parent's view of it (`ru_maxrss`) would not do: Linux hands the parent's own peak
on to a child that is started by vfork.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from pipeline.errors import InputError

_ROOT = Path(__file__).parents[1]
_MARK = "measured: "

#: `python -m pipeline segment ...`, which says its peak at the end.
_SEGMENT = """
import sys
from pipeline.cli import main
code = main(sys.argv[1:])
from eval.processes import tell
tell({})
sys.exit(code)
"""

#: A contender opened and run once, without what reading files and writing results take.
_FIRST_RUN = """
import sys
from pathlib import Path
from time import perf_counter
from eval.contenders import CONTENDERS, Setting
from pipeline.scan import read_scan
from eval.processes import tell
name, weights, exports, threads, image = sys.argv[1:]
pixels = read_scan(Path(image)).pixels
start = perf_counter()
run = CONTENDERS[name].open(Setting(weights, Path(exports), int(threads)))
opened = perf_counter()
first = run(pixels)
tell({"open_ms": 1000 * (opened - start), "first_ms": first["total"]})
"""


def tell(values: dict) -> None:
    """Print what a measuring parent reads: the values, and this process' peak memory in MB (10^6 bytes)."""
    print(_MARK + json.dumps(values | {"peak_mb": peak_mb()}), flush=True)


def peak_mb() -> float | None:
    """The most memory that this process has held, in MB; None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return round(kilobytes[0] * 1024 / 1e6, 1) if kilobytes else None


def segment_once(image: Path, weights: str, precision: str, threads: int) -> dict[str, float]:
    """`python -m pipeline segment` on one image: {'wall_ms', 'peak_mb'}, from the start of python to its end."""
    with tempfile.TemporaryDirectory() as out:
        words = ["segment", str(image.resolve()), "--out", out, "--weights", weights, "--precision", precision]
        return _run(_SEGMENT, [*words, "--threads", str(threads), "--quiet"])


def run_once(name: str, weights: str, exports: Path, threads: int, image: Path) -> dict[str, float]:
    """A contender's first image: {'wall_ms', 'open_ms', 'first_ms', 'peak_mb'}."""
    return _run(_FIRST_RUN, [name, weights, str(exports.resolve()), str(threads), str(image.resolve())])


def _run(code: str, words: list[str]) -> dict[str, float]:
    start = perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
    )
    wall = 1000 * (perf_counter() - start)
    told = [line.removeprefix(_MARK) for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if done.returncode or not told:
        said = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise InputError(
            "a process of its own", f"it ended with {done.returncode} ({said})", "one that measures itself"
        )
    return json.loads(told[-1]) | {"wall_ms": wall}
