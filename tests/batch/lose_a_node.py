"""A batch on a Ray cluster of three machines, simulated on this one, of which one is lost half-way.

    python -m tests.batch.lose_a_node INPUT... --out DIR [-- OPTION...]

Says when the node was taken away and what the batch answered; the exit code is 1 where an input was not answered
exactly once. What follows `--` goes to `python -m pipeline batch`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.batch.batch_runs import ROOT, answered_folders, runs_of, start_batch

_NODES = 3


def lose_a_node(
    inputs: Sequence[object], out: Path, count: int, options: Sequence[object] = (), seconds: float = 1800, **settings
) -> str:
    """Run the batch and take a node away when half of `count` inputs are answered; returns what the batch said.

    `settings` are those of its process.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # the nodes' workers find the code here, as those of other machines do at the same path
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        lost = [cluster.add_node(num_cpus=1) for _ in range(_NODES - 1)][-1]
        words = [*inputs, "--out", out, "--engine", "ray", "--address", cluster.address, *options]
        deadline = time.monotonic() + seconds
        # Ray says much on stderr of a node that is lost; a full pipe would hold the batch up
        with start_batch(*words, stderr=subprocess.DEVNULL, **settings) as process:
            while len(answered_folders(out)) < count / 2 and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.2)
            print(f"a node is lost with {len(answered_folders(out))} answered", flush=True)
            cluster.remove_node(lost, allow_graceful=False)
            try:
                return process.communicate(timeout=max(1, deadline - time.monotonic()))[0]
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    finally:
        cluster.shutdown()


def answered_exactly_once(out: Path) -> list[str]:
    """What speaks against it: an input that the tables have not once, content that has no folder of results, or two."""
    from pyarrow import parquet

    rows = parquet.read_table(out / "inputs.parquet").to_pylist()
    names = Counter(row["input"] for row in rows)
    contents = {row["sha256"] for row in rows if row["status"] == "done"}
    return [
        *(f"{name}: {times} times" for name, times in names.items() if times != 1),
        *(f"{row['input']}: {row['status']}" for row in rows if row["status"] not in ("done", "failed")),
        *(f"{name}: no results" for name in sorted(contents - answered_folders(out).keys())),
        *(f"{path.name}: left over" for path in out.glob("files/*/.*")),
        *(["other numbers of answers"] if runs_of(out)[0]["answered"] != len({row["sha256"] for row in rows}) else []),
    ]


def main() -> int:
    words = sys.argv[1:]
    place = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(words[:place])
    from pipeline.batch.listing import list_inputs

    count = len(list_inputs(arguments.inputs))
    print(lose_a_node(arguments.inputs, arguments.out, count, words[place + 1 :], seconds=7200))
    wrong = answered_exactly_once(arguments.out)
    print("\n".join(wrong) or "all inputs answered exactly once")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
