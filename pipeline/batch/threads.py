"""Many small things that wait for a disk or a network, at the same time and in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

_Item, _Result = TypeVar("_Item"), TypeVar("_Result")
#: What is handed to the threads at once: an executor keeps a kilobyte for each.
_AT_ONCE = 4096


def map_in_threads(function: Callable[[_Item], _Result], items: Iterable[_Item], threads: int) -> Iterator[_Result]:
    """`map` in threads; of a million items only some thousand are held."""
    left = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        while part := list(islice(left, _AT_ONCE)):
            yield from pool.map(function, part)
