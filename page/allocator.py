"""The page's memory goes back to the system when it is free.

The C library keeps a heap for each of many threads, and free memory in all of them: a page that answers large images in
forty threads would hold hundreds of megabytes more within an hour, without using them.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time

#: Heaps in all; seconds between two looks.
_HEAPS, _EVERY_SECONDS = 2, 20.0
#: Of glibc's malloc.h.
_M_ARENA_MAX = -8


def keep_small() -> None:
    """Share a few heaps among all threads, and give back what is free in them from now on, now and then.

    Does nothing where the C library is not glibc.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        return
    library.mallopt(_M_ARENA_MAX, _HEAPS)

    def trim() -> None:
        while True:
            time.sleep(_EVERY_SECONDS)
            library.malloc_trim(0)

    threading.Thread(target=trim, name="give memory back", daemon=True).start()
