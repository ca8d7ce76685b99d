"""The workers, watched: an input that hangs, takes too much memory or brings its process down is told as any other."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.fuzz.worker import BEGUN

ROOT = Path(__file__).parents[2]
#: What an input may take: seconds of the processor, for the machine may be busy; MB (10^6) of memory.
SECONDS, MEGABYTES = 10, 1500
#: When a worker is ended that does not answer: seconds of the processor, and of the clock for one that waits.
_ENDED_SECONDS, _ENDED_CLOCK_SECONDS = 40, 300
#: What is read rightly may take a second more for so many pixels.
_PIXELS_A_SECOND = 15_000_000
_BUILD_SECONDS = 300


@dataclass(frozen=True)
class Told:
    """What came of one input.

    Attributes
    ----------
    outcome : 'good', 'refused' or 'fault'
    said : the sentence of a refusal or a fault
    seconds : of the processor
    """

    kind: str
    number: int
    name: str
    outcome: str
    said: str = ""
    trace: str = field(default="", repr=False)
    seconds: float = 0.0
    peak_mb: float = 0.0


class Worker:
    """A process and the inputs that it is given."""

    def __init__(self, work: Path, seed: int):
        self.work, self.seed = work, seed
        self._start()

    def _start(self) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        words = ["-X", "faulthandler", "-m", "tests.fuzz.worker", "--work", str(self.work), "--seed", str(self.seed)]
        one = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with (self.work / "stderr").open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, *words], cwd=ROOT, env=os.environ | one, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=stderr, text=True,
            )  # fmt: skip

    def ask(self, kind: str, number: int) -> Told:
        """Never raises: what happens to the process is told."""
        self.process.stdin.write(json.dumps({"kind": kind, "number": number}) + "\n")
        self.process.stdin.flush()
        if self._line(_BUILD_SECONDS, watched=False) is None:
            return self._ended(kind, number, "could not be made", 0.0)
        peak = [0.0]
        line = self._line(_ENDED_CLOCK_SECONDS, watched=True, peak=peak)
        if line is None:
            why = f"took {peak[0]:.0f} MB" if peak[0] > MEGABYTES else _no_answer(self.process.pid)
            return self._ended(kind, number, why, peak[0])
        return _judged(kind, number, json.loads(line))

    def _line(self, seconds: float, watched: bool, peak: list[float] | None = None) -> str | None:
        """The next line; None where it did not come in time, the process ended, or it took too much memory."""
        process, end = psutil.Process(self.process.pid), time.perf_counter() + seconds
        used = _processor_seconds(process)
        while time.perf_counter() < end:
            if select.select([self.process.stdout], [], [], 0.1)[0]:
                line = self.process.stdout.readline()
                if not watched and line and line.strip() != BEGUN:
                    continue
                return line or None
            if watched:
                try:
                    peak[0] = max(peak[0], process.memory_info().rss / 1e6)
                    busy = _processor_seconds(process) - used
                except psutil.Error:
                    return None
                if peak[0] > MEGABYTES or busy > _ENDED_SECONDS:
                    return None
        return None

    def _ended(self, kind: str, number: int, why: str, peak: float) -> Told:
        """After a fault that a process does not survive: a new one."""
        try:
            code = self.process.wait(timeout=1)
            stderr = (self.work / "stderr").read_text(errors="replace")
            printed = (self.work / "printed").read_text(errors="replace")
            why = f"the process ended with {code}"
        except subprocess.TimeoutExpired:
            stderr = printed = ""
        self.close()
        told = Told(kind, number, "", "fault", why, f"{stderr}\n{printed}"[-4000:], peak_mb=peak)
        self._start()
        return told

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def _no_answer(pid: int) -> str:
    """Hung while computing, or while waiting, as where the machine has no time for it."""
    limits = f"no answer in {_ENDED_SECONDS} s of the processor or {_ENDED_CLOCK_SECONDS} s of the clock"
    try:
        return f"{limits}; the process has computed for {_processor_seconds(psutil.Process(pid)):.0f} s since it began"
    except psutil.Error:
        return limits


def _processor_seconds(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:2])


def _judged(kind: str, number: int, told: dict) -> Told:
    """What a worker says of itself, with the limits applied."""
    outcome, said, trace = told["outcome"], told.get("said", ""), told.get("trace", "")
    allowed = SECONDS + (told.get("pixels", 0) / _PIXELS_A_SECOND)
    if outcome != "fault":
        faults = [
            (told["busy_seconds"] > allowed, f"took {told['busy_seconds']:.1f} s"),
            (told["peak_mb"] > MEGABYTES, f"took {told['peak_mb']:.0f} MB"),
            (bool(told["printed"]), f"printed {told['printed'][:200]!r}"),
            (bool(told["left"]), f"left {told['left']}"),
        ]
        for is_fault, what in faults:
            if is_fault:
                outcome, said = "fault", what
                break
    return Told(kind, number, told["name"], outcome, said, trace, told["busy_seconds"], told["peak_mb"])


def run_pool(
    inputs: Iterable[tuple[str, int]], out: Path, seed: int, workers: int, tell: Callable[[Told], None]
) -> None:
    """Give every input, (kind, number), to one of the workers; `tell` is called in one thread at a time."""
    waiting, lock = iter(inputs), threading.Lock()

    def work(number: int) -> None:
        worker = Worker(out / f"worker{number}", seed)
        try:
            while True:
                with lock:
                    asked = next(waiting, None)
                if asked is None:
                    return
                told = worker.ask(*asked)
                with lock:
                    tell(told)
        finally:
            worker.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
