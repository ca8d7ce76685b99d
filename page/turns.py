"""Who may run the networks: one at a time, because each run uses all cores, and in the order of asking."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A lock that is fair, and that long work passes on between two of its steps.

    >>> with turns.mine():
    ...     for frame in frames:
    ...         segment(frame)
    ...         turns.pass_on()  # who asks about one image waits for one frame, not for all of them
    """

    def __init__(self):
        self._waiting: deque[threading.Event] = deque()
        self._taken = False
        self._lock = threading.Lock()

    @contextmanager
    def mine(self) -> Iterator[None]:
        """Wait for a turn, and have it until the end of the block."""
        self._take()
        try:
            yield
        finally:
            self._give()

    def pass_on(self) -> None:
        """Within a turn: let all who wait now go first."""
        with self._lock:
            others = bool(self._waiting)
        if others:
            self._give()
            self._take()

    def _take(self) -> None:
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            called = threading.Event()
            self._waiting.append(called)
        called.wait()

    def _give(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()  # the turn goes over, so no one comes in between
            else:
                self._taken = False
