"""The detector and the encoder on many frames: one thread a frame, as many frames at a time as there are threads.

Threads that share a small network wait for each other; with a frame each they don't, and two cores do a fifth more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, TypeVar

from pipeline.detector import Detector
from pipeline.geometry import Resize
from pipeline.results import Detections
from pipeline.segmenter import Embedding, Segmenter

if TYPE_CHECKING:  # its readers take as long to load as an image to segment
    from pipeline.stack import Stack

_Item, _Result = TypeVar("_Item"), TypeVar("_Result")


class FrameNetworks:
    """Both networks, and the threads that run them.

    Parameters
    ----------
    detector, segmenter
        Opened with one thread each, unless `threads` is 1. Of the segmenter only the encoder runs here.
    threads
        Frames at a time.
    """

    def __init__(self, detector: Detector, segmenter: Segmenter, threads: int):
        self.detector, self.segmenter, self.threads = detector, segmenter, threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="frame") if threads > 1 else None

    def propose(self, stack: Stack, frames: Iterable[int]) -> Iterator[tuple[int, Detections]]:
        """(frame, its boxes whatever their scores), in order."""
        return self.map(lambda frame: self.detector.propose(stack.pixels(frame)), frames)

    def embed(self, stack: Stack, frame: int, window: Resize) -> Embedding:
        """One frame, seen through `window`."""
        return self.segmenter.embed_input(window.image(stack.pixels(frame)), window)

    def map(self, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[tuple[_Item, _Result]]:
        """(item, its result) in order, with about as many results ahead as there are threads; within a `time_limit`."""
        if self._pool is None:
            yield from ((item, function(item)) for item in items)
            return
        coming = deque()
        for item in items:
            coming.append((item, self._pool.submit(copy_context().run, function, item)))
            if len(coming) > self.threads:
                yield _first(coming)
        while coming:
            yield _first(coming)


def _first(coming: deque) -> tuple:
    item, result = coming.popleft()
    return item, result.result()
