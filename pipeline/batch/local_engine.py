"""Worker processes of the standard library, on this machine: each holds one segmenter and answers one input at a time.

A worker that dies - killed by the system for its memory, or by a fault in a library - is replaced. The input that it
had is tried once more, after the others; the second time it becomes a failure.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from time import perf_counter

from hub import WeightsError
from pipeline.batch.answerer import Answerer, Job, Work
from pipeline.batch.answers import is_answered, write_failure
from pipeline.batch.content import hash_or_error
from pipeline.batch.listing import Input
from pipeline.batch.threads import map_in_threads
from pipeline.errors import InputError
from pipeline.runtime import available_cores

#: Workers that may die before they were ready.
_FALSE_STARTS = 3
#: Seconds that a worker which closed its connection has to end by itself, so that its own exit code is known.
_LAST_BREATH = 10
#: Workers that an input may take with it before it is a failure.
DEATHS = 2


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    work: Work | None = None

    def hear(self) -> tuple[str, object]:
        """What it says: ('ready', None), ('refused', error), ('answered', None), or ('died', why)."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join(_LAST_BREATH)
            self.leave()
            return "died", _why(self.process.exitcode)

    def leave(self) -> None:
        """End it. What it was writing is not half-written under its name."""
        self.process.kill()
        self.process.join()
        self.connection.close()


class LocalEngine:
    """Answers inputs in `workers` processes.

    >>> with LocalEngine(job, workers=2) as engine:
    ...     for work in engine.answer(works): ...

    `ready_at` is when the first worker was ready, as `time.perf_counter` gives it.
    """

    def __init__(self, job: Job, workers: int):
        self.job, self.count = job, workers
        self.ready_at: float | None = None
        self._workers: list[_Worker] = []
        self._false_starts = 0
        self._deaths: Counter[str] = Counter()

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(self, *_: object) -> None:
        while self._workers:
            self._workers.pop().leave()

    def hash(self, inputs: Iterable[Input]) -> Iterator[str | InputError]:
        """The sha256 of each input's content, or why it can't be read, in order."""
        # reading and hashing leave Python's lock to others; what waits for a network needs more than the cores
        return map_in_threads(hash_or_error, inputs, 4 * available_cores())

    def answer(self, works: Iterable[Work]) -> Iterator[Work]:
        """Answer each; yields those that are answered, as they are.

        Raises
        ------
        InputError, WeightsError
            For what concerns all: the weights, a class, the folder of the results, workers that can't be started.
        """
        waiting = deque(works)
        for _ in range(min(self.count, len(waiting))):
            self._start()
        while self._workers:
            spoke = wait([worker.connection for worker in self._workers])
            for worker in [worker for worker in self._workers if worker.connection in spoke]:
                word, value = worker.hear()
                if word == "refused":
                    raise value
                if word == "died":
                    self._workers.remove(worker)
                    if self._is_over(worker.work, value):
                        yield worker.work
                    elif worker.work:
                        waiting.append(worker.work)
                    if waiting:
                        self._start()
                    continue
                if word == "answered":
                    yield worker.work
                self.ready_at = self.ready_at or perf_counter()
                self._hand_out(worker, waiting)

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=_work, args=(theirs, self.job), daemon=True)
        process.start()
        theirs.close()
        self._workers.append(_Worker(process, ours))

    def _hand_out(self, worker: _Worker, waiting: deque[Work]) -> None:
        worker.work = waiting.popleft() if waiting else None
        if worker.work:
            worker.connection.send(worker.work)
        else:
            self._workers.remove(worker)
            worker.leave()

    def _is_over(self, work: Work | None, why: str) -> bool:
        """Whether the input that a dead worker had is answered: by the worker's last word, or for being its second."""
        if work is None:
            self._false_starts += 1
            if self._false_starts >= _FALSE_STARTS:
                raise InputError(
                    "--workers", f"they {why} before they were ready", "fewer, or a machine with more memory"
                )
            return False
        if is_answered(self.job.out, work.sha256):
            return True
        self._deaths[work.sha256] += 1
        if self._deaths[work.sha256] < DEATHS:
            return False
        write_failure(self.job.out, work.sha256, work.input.name, deadly(work.input, why))
        return True


def deadly(found: Input, why: str) -> InputError:
    """The failure of an input that took its workers with it."""
    problem = f"the process that segmented it {why}, twice"
    return InputError(found.name, problem, "an input that fits into this machine's memory and is whole")


def _why(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"was ended by {name}"
    return f"ended with {code}"


def _work(connection: Connection, job: Job) -> None:
    """A worker's life: it answers what it is given until the connection ends, and dies with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        answer = Answerer(job)
        connection.send(("ready", None))
        while True:
            answer(connection.recv())
            connection.send(("answered", None))
    except EOFError:
        pass
    except (InputError, WeightsError) as error:
        connection.send(("refused", error))


def _die_with_parent() -> None:
    """A parent that was killed can't say so; a worker that went on alone would do what the next run does, too."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
