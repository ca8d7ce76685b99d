"""Ray Data's actors, on this machine or a cluster: each holds one segmenter; the same answers as `local_engine` gives.

Ray hands blocks of inputs to the actors, holds back where they are slow, restarts actors that die and gives their
blocks to others when a machine is lost. What of a block was answered before lies on the disk and is not done again.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

# before Ray is imported: nothing is reported to anyone
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
import ray.data
from ray.exceptions import RayError

from hub import WeightsError
from pipeline.batch.answerer import Answerer, Job, Work
from pipeline.batch.answers import is_answered, write_failure
from pipeline.batch.content import hash_or_error
from pipeline.batch.listing import Input
from pipeline.batch.local_engine import DEATHS, deadly
from pipeline.errors import InputError
from pipeline.runtime import available_cores

_ROOT = Path(__file__).parents[2]
#: Inputs that a worker is handed at once: small enough that none is left with work when the others are done.
_BLOCK, _HASHED_BLOCK = 8, 256
#: Blocks that each worker gets at least, where there are so many inputs.
_BLOCKS_A_WORKER = 4
#: Seconds that a cluster may take to take a connection.
_REACHED_WITHIN = 20
#: Where an input leaves a mark as long as a worker has it.
_ATTEMPTS = ".attempts"


class RayEngine:
    """Answers inputs in Ray's actors: `workers` of them, or as many as the cluster has cores for.

    Parameters
    ----------
    address
        Of a running cluster, as `ray.init` takes it; None starts one on this machine, for this run alone. Every machine
        has this code at the same path, its packages, and the folder of the results.

    Raises
    ------
    InputError
        Where the cluster can't be reached.
    """

    def __init__(self, job: Job, workers: int | None, address: str | None):
        self.job, self.address = job, address
        self.ready_at: float | None = None
        environment = {"env_vars": {"PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])}}
        own = {} if address else {"num_cpus": max(available_cores(), (workers or 1) * job.threads)}
        settings = {"runtime_env": environment, "log_to_driver": False, "logging_level": logging.WARNING}
        _check_reachable(address)
        try:
            ray.init(address=address, include_dashboard=None if address else False, **own, **settings)
        except (RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise _unreachable(address, reason) from None
        self.count = workers or max(1, int(ray.cluster_resources().get("CPU", 1)) // job.threads)
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        ray.data.DataContext.get_current().enable_progress_bars = sys.stderr.isatty()

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(self, *_: object) -> None:
        ray.shutdown()
        shutil.rmtree(self.job.out / _ATTEMPTS, ignore_errors=True)

    def hash(self, inputs: Iterable[Input]) -> Iterator[str | InputError]:
        """As `LocalEngine.hash`, on all machines."""
        rows = [{"place": place, "input": _told(found)} for place, found in enumerate(inputs)]
        if not rows:
            return
        hashed = _blocks(rows, _HASHED_BLOCK).map_batches(_hash, batch_size=None, batch_format="numpy")
        answers = {row["place"]: json.loads(row["answer"]) for row in hashed.iter_rows()}
        for place in range(len(rows)):
            answer = answers[place]
            yield answer if isinstance(answer, str) else InputError(*answer)

    def answer(self, works: Iterable[Work]) -> Iterator[Work]:
        """As `LocalEngine.answer`."""
        works = list(works)
        if not works:
            return
        rows = [{"place": place, "sha256": work.sha256, "input": _told(work.input)} for place, work in enumerate(works)]
        size = max(1, min(_BLOCK, len(rows) // (_BLOCKS_A_WORKER * self.count)))
        answered = _blocks(rows, size).map_batches(
            _Worker,
            fn_constructor_kwargs={"job": self.job},
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=self.count, initial_size=self.count),
            num_cpus=self.job.threads,
            batch_size=1,
            batch_format="numpy",
        )
        for row in answered.iter_rows():
            self.ready_at = self.ready_at or perf_counter()
            if row["refused"]:
                kind, *words = json.loads(row["refused"])
                raise WeightsError(*words) if kind == "weights" else InputError(*words)
            yield works[row["place"]]


class _Worker:
    """What an actor of Ray's holds."""

    def __init__(self, job: Job):
        self.job, self.refused, self.answer = job, "", None
        try:
            self.answer = Answerer(job)
        except InputError as error:
            self.refused = json.dumps(["input", error.subject, error.problem, error.expected])
        except WeightsError as error:
            self.refused = json.dumps(["weights", str(error)])

    def __call__(self, batch: dict) -> dict:
        """A batch of one input."""
        if not self.refused:
            try:
                self._answer(Work(str(batch["sha256"][0]), _understood(batch["input"][0])))
            except InputError as error:
                self.refused = json.dumps(["input", error.subject, error.problem, error.expected])
        return {"place": batch["place"], "refused": [self.refused]}

    def _answer(self, work: Work) -> None:
        """Answer an input, unless it ended two workers before. That a machine was lost is not held against it."""
        if is_answered(self.job.out, work.sha256):
            return
        marks = self.job.out / _ATTEMPTS / self.job.session / work.sha256
        earlier = [path.name.partition(".")[0] for path in marks.glob("*.*")]
        if earlier:
            alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
            if sum(node in alive for node in earlier) >= DEATHS:
                write_failure(self.job.out, work.sha256, work.input.name, deadly(work.input, "was ended"))
                return
        marks.mkdir(parents=True, exist_ok=True)
        (marks / f"{ray.get_runtime_context().get_node_id()}.{secrets.token_hex(4)}").touch()
        self.answer(work)
        shutil.rmtree(marks, ignore_errors=True)


def _check_reachable(address: str | None) -> None:
    """Ray would wait for minutes for a cluster that is not there."""
    host, _, port = (address or "").rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        return  # `auto`, `local`: Ray knows at once
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACHED_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, getattr(error, "strerror", None) or str(error)) from None


def _unreachable(address: str | None, reason: str) -> InputError:
    return InputError(
        "--address", f"no cluster to be reached at {address or 'this machine'} ({reason})", "host:port, or auto"
    )


def _hash(batch: dict) -> dict:
    answers = [hash_or_error(_understood(told)) for told in batch["input"]]
    told = [a if isinstance(a, str) else [a.subject, a.problem, a.expected] for a in answers]
    return {"place": batch["place"], "answer": [json.dumps(answer) for answer in told]}


def _blocks(rows: list[dict], size: int) -> ray.data.Dataset:
    return ray.data.from_items(rows, override_num_blocks=-(-len(rows) // size))


def _told(found: Input) -> str:
    """An input as text that any table can hold: a file's name need not be UTF-8."""
    return json.dumps(asdict(found))


def _understood(told: str) -> Input:
    values = json.loads(str(told))
    return Input(values["name"], tuple(values["files"]), values["is_folder"])
