"""Kill a batch at random moments with SIGKILL, continue it, and compare what it left with an undisturbed run's.

    python -m tests.batch.kill_and_continue INPUT... --work DIR [--kills 10] [--seed 0] [-- OPTION...]

Says each moment, and at the end whether the tables are the same bytes, the files the same, and nothing was done twice;
the exit code is 1 where not. What follows `--` goes to `python -m pipeline batch`.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from tests.batch.batch_runs import answered_folders, files_of, run_batch, runs_of, start_batch, tables_of


def kill_and_continue(
    inputs: Sequence[object], work: Path, kills: int, seed: int, options: Sequence[object] = ()
) -> list[str]:
    """Run undisturbed into `work/undisturbed`, killed and continued into `work/killed`; returns what differs."""
    whole, killed = work / "undisturbed", work / "killed"
    start = perf_counter()
    first = run_batch(*inputs, "--out", whole, *options, timeout=None)
    seconds = perf_counter() - start
    answering = runs_of(whole)[0]["seconds"]["answering"]
    ready = seconds - answering
    print(f"undisturbed: {seconds:.1f} s, exit code {first.returncode}", flush=True)
    dice, before, repeated = random.Random(seed), {}, set()
    for number in range(1, kills + 1):
        # some before the first answer, most among the answers, so that the work lasts for all kills
        moment = dice.uniform(ready / 2, ready + 2 * answering / kills)
        process = start_batch(*inputs, "--out", killed, *options)
        try:
            process.communicate(timeout=moment)
            how = "had ended"
        except subprocess.TimeoutExpired:
            # in turns the parent alone, whose workers must not live on, and all at once
            (os.kill if number % 2 else os.killpg)(process.pid, signal.SIGKILL)
            process.communicate()
            how = "killed"
        after = answered_folders(killed)
        repeated |= {name for name in before if after.get(name) != before[name]}
        before = after
        print(f"{number}: after {moment:.1f} s {how}, {len(after)} answered", flush=True)
    last = run_batch(*inputs, "--out", killed, *options, timeout=None)
    after = answered_folders(killed)
    repeated |= {name for name in before if after.get(name) != before[name]}
    return [
        *([f"exit codes {first.returncode} and {last.returncode}"] if first.returncode != last.returncode else []),
        *(f"table {name}" for name, data in tables_of(whole).items() if tables_of(killed)[name] != data),
        *(f"file {name}" for name in differing(files_of(whole), files_of(killed))),
        *(f"done twice: {name}" for name in sorted(repeated)),
    ]


def differing(one: dict, other: dict) -> list[str]:
    """Keys that only one has, or whose values differ."""
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))


def main() -> int:
    words = sys.argv[1:]
    place = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(words[:place])
    wrong = kill_and_continue(arguments.inputs, arguments.work, arguments.kills, arguments.seed, words[place + 1 :])
    print("\n".join(wrong) or "the same tables, the same files, nothing done twice")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
