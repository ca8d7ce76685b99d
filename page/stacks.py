"""Volumes and videos: read, track, and stop at once where their visitor has gone or says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from page.answers import Answers, plain_names
from pipeline.stack import Stack, read_stack
from pipeline.time_limit import time_limit
from pipeline.tracker import Tracker, choose_axis
from pipeline.tracks import Tracking

#: (frames done, frames in all, seconds that are left or None at the start)
Progress = Callable[[int, int, float | None], None]

#: Name of a CT window -> (centre, width) in Hounsfield units.
WINDOWS = {
    "auto": None, "brain": (40, 80), "soft_tissue": (50, 400), "lung": (-600, 1500), "bone": (400, 1800),
}  # fmt: skip
#: Name of how a volume is cut -> the patient's axis.
AXES = {"auto": None, "axial": 2, "coronal": 1, "sagittal": 0}


class Stopped(Exception):
    """Raised inside of the work that was stopped."""


@dataclass(frozen=True)
class StackQuestion:
    """A volume or video and how to look at it.

    Attributes
    ----------
    path : a file, or a folder of slices or frames
    classes : names of the classes to look for; None for all
    min_score : 0..1 of an object's surest box; None takes the release's own
    axis : of a volume, the patient's axis that it is cut along: 0 right, 1 front, 2 head; None as its slices were made
    window : (centre, width) of the intensities, Hounsfield units of CT; None as `read_stack` says
    """

    path: Path
    precision: str
    classes: tuple[str, ...] | None = None
    min_score: float | None = None
    axis: int | None = None
    window: tuple[float, float] | None = None


class Stacks:
    """Asks the networks of `answers` about stacks, a few frames at a time: who asks about an image goes in between.

    Parameters
    ----------
    seconds
        The time that one stack may take.
    """

    def __init__(self, answers: Answers, seconds: float):
        self.answers, self.seconds = answers, seconds
        self._running: dict[str, threading.Event] = {}

    def question(
        self, path: Path, precision: str, classes: list[str] | None, min_score: float | None, axis: int | None = None,
        window: tuple[float, float] | None = None,
    ) -> StackQuestion:  # fmt: skip
        """What the tab's controls stand at; see `Answers.question`."""
        image = self.answers.question(str(path), precision, classes, min_score)
        return StackQuestion(path, precision, image.classes, image.min_score, axis, window)

    def ask(
        self, question: StackQuestion, visitor: str | None = None, progress: Progress | None = None,
        gone: Callable[[], bool] = lambda: False,
    ) -> tuple[Stack, Tracking]:  # fmt: skip
        """Read and track.

        Parameters
        ----------
        visitor
            Who may `stop` it.
        gone
            Whether nobody waits for it any more; looked at between two frames.

        Raises
        ------
        InputError
            Where the stack can't be read, or takes longer than it may.
        Stopped
        """
        segmenter = self.answers.segmenter(question.precision)
        with self._stoppable(visitor) as stop, plain_names():
            stack = read_stack(question.path, axis=question.axis, window=question.window)
            _check(stop, gone)
            with self.answers.turns.mine(), time_limit(self.seconds):
                start = perf_counter()
                if question.axis is None:
                    stack = choose_axis(stack, segmenter, question.classes)

                def step(done: int, total: int) -> None:
                    _check(stop, gone)
                    self.answers.turns.pass_on()
                    _check(stop, gone)
                    if progress:
                        passed = perf_counter() - start
                        progress(done, total, passed * (total - done) / done if done else None)

                found = Tracker(segmenter)(
                    stack, classes=question.classes, min_score=question.min_score, progress=step
                )  # fmt: skip
        return stack, found

    def stop(self, visitor: str | None) -> bool:
        """Stop what runs or waits for this visitor; whether there was anything."""
        running = self._running.get(visitor or "")
        if running:
            running.set()
        return bool(running)

    @contextmanager
    def _stoppable(self, visitor: str | None) -> Iterator[threading.Event]:
        stop = threading.Event()
        if visitor:
            self.stop(visitor)  # a visitor has one at a time: a new one ends the last
            self._running[visitor] = stop
        try:
            yield stop
        finally:
            if visitor and self._running.get(visitor) is stop:
                del self._running[visitor]


def _check(stop: threading.Event, gone: Callable[[], bool]) -> None:
    if stop.is_set() or gone():
        raise Stopped
