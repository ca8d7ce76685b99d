"""Fuzz every reader: python -m tests.fuzz --inputs 10000 --seed 0 --out runs/fuzz

Inputs are bombs, good files, and mutations of good files. Each must give a good result or one sentence, in 10 s of the
processor and 1.5 GB, without anything printed, left behind or half-written. `summary.md` has a table by format;
`faults/` holds the inputs that broke a rule. The exit code is 1 where there is one.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import shutil
import sys
import time
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path

from hub.tables import markdown_table
from tests.fuzz.pool import Told, run_pool
from tests.fuzz.seeds import KINDS
from tests.fuzz.worker import bomb_count, input_of

#: What a kind needs that only one of the two environments has.
_NEEDS = {"coco": "scipy", "mp4": "av", "avi-mkv": "av", "gif": "av", "nrrd": "nrrd", "dicom": "highdicom"}


def inputs_of(kinds: list[str], count: int, with_bombs: bool = True) -> list[tuple[str, int]]:
    """(kind, number): all bombs, then the kinds in turn, `count` in all."""
    bombs = [(kind, number) for kind in kinds for number in range(bomb_count(kind)) if with_bombs]
    turns = ((kind, bomb_count(kind) + number) for number in range(count) for kind in kinds)
    return [*bombs, *islice(turns, max(0, count - len(bombs)))]


def kinds_here(wanted: list[str] | None = None) -> list[str]:
    """Those that this environment can read."""
    wanted = wanted or list(KINDS)
    return [kind for kind in wanted if kind not in _NEEDS or importlib.util.find_spec(_NEEDS[kind])]


def summary(told: list[Told]) -> str:
    """A table by kind, then each kind's distinct sentences, without names and numbers, and how often they came."""
    rows = []
    by_kind: dict[str, list[Told]] = defaultdict(list)
    for each in told:
        by_kind[each.kind].append(each)
    for kind, found in [*by_kind.items(), ("all", told)]:
        counts = Counter(each.outcome for each in found)
        longest, most = max(each.seconds for each in found), max(each.peak_mb for each in found)
        cells = [kind, len(found), counts["good"], counts["refused"], counts["fault"], f"{longest:.1f}", f"{most:.0f}"]
        rows.append(cells)
    lines = [markdown_table(("kind", "inputs", "good", "refused", "faults", "longest s", "most MB"), rows)]
    for kind, found in by_kind.items():
        lines += ["", f"## {kind}", ""]
        sentences = Counter(_general(each.said) for each in found if each.outcome == "refused")
        lines += [f"- {count} x {sentence}" for sentence, count in sentences.most_common()]
    faults = [each for each in told if each.outcome == "fault"]
    if faults:
        lines += ["", "## Faults", ""]
        lines += [f"- {each.kind} {each.number} ({each.name}): {each.said}" for each in faults]
    return "\n".join(lines) + "\n"


def _general(sentence: str) -> str:
    """A sentence without the file's name, numbers and what it quotes."""
    _, _, rest = sentence.partition(": ")
    rest = re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", rest or sentence)
    return re.sub(r"-?\d[\d.,x]*(e[+-]?\d+)?", "#", rest)[:200]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000, help="in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another gives other mutations (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--kinds", help=f"of {', '.join(KINDS)}; default: all that this environment reads")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no input after so long")
    parser.add_argument("--no-bombs", action="store_true", help="mutations alone: bombs take a minute each kind")
    parser.add_argument("--only", type=int, metavar="N", help="of one kind, input N alone")
    arguments = parser.parse_args()
    wanted = arguments.kinds.split(",") if arguments.kinds else None
    kinds = kinds_here(wanted)
    for kind in set(wanted or KINDS) - set(kinds):
        print(f"{kind}: not read here, {_NEEDS[kind]} is not installed", file=sys.stderr)
    out = arguments.out
    shutil.rmtree(out / "faults", ignore_errors=True)
    (out / "faults").mkdir(parents=True)
    told: list[Told] = []
    start, end = time.time(), time.time() + 60 * arguments.minutes

    def tell(each: Told) -> None:
        told.append(each)
        if each.outcome == "fault":
            print(f"{each.kind} {each.number} ({each.name}): {each.said}", flush=True)
            _keep(out / "faults", each, arguments.seed)
        if len(told) % 500 == 0:
            print(f"{len(told)} inputs in {time.time() - start:.0f} s", flush=True)
            (out / "summary.md").write_text(summary(told))

    inputs = inputs_of(kinds, arguments.inputs, not arguments.no_bombs)
    if arguments.only is not None:
        inputs = [(kinds[0], arguments.only)]
    run_pool(_until(inputs, end), out, arguments.seed, arguments.workers, tell)
    text = summary(told)
    (out / "summary.md").write_text(text)
    (out / "summary.json").write_text(json.dumps([vars(each) for each in told], indent=0))
    print(text)
    return int(any(each.outcome == "fault" for each in told))


def _until(inputs: list[tuple[str, int]], end: float):
    for each in inputs:
        if time.time() > end:
            return
        yield each


def _keep(folder: Path, each: Told, seed: int) -> None:
    place = folder / f"{each.kind}-{each.number}"
    place.mkdir(exist_ok=True)
    (place / "trace.txt").write_text(f"{each.said}\n{each.trace}")
    for name, content in input_of(each.kind, each.number, seed).files.items():
        (place / name).write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
