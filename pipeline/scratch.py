"""Arrays that may be larger than the memory: from some size on they lie in a temporary file without a name."""

from __future__ import annotations

import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from pipeline.errors import InputError

#: Bytes that an array may take in memory.
IN_MEMORY = 64 << 20
#: Bytes of the disk that are left to others.
_SPARE = 1 << 30


def scratch_array(path: Path, shape: Sequence[int], dtype: np.dtype | type) -> np.ndarray:
    """An array of zeros, in memory or as `numpy.memmap` of a file that goes when the array goes.

    Raises
    ------
    InputError
        Where the disk has no room; it names `path`, the input that needs it.
    """
    dtype = np.dtype(dtype)
    size = math.prod(int(length) for length in shape) * dtype.itemsize
    if size <= IN_MEMORY:
        return np.zeros(shape, dtype)
    with scratch_file(path, size) as file:
        try:
            # a write to a page that the disk has no room for would end the process
            os.posix_fallocate(file.fileno(), 0, size)
        except (AttributeError, OSError):
            check_room(path, size)  # taken by others meanwhile; or this system can't
            file.truncate(size)
        return np.memmap(file, dtype, "r+", shape=tuple(shape))


def scratch_file(path: Path, size: int = 0) -> IO[bytes]:
    """A temporary file without a name, of which `size` bytes will be needed at least."""
    check_room(path, size)
    return tempfile.TemporaryFile(prefix="automedseg-")


def check_room(path: Path, size: int) -> None:
    """Refuse what would fill the disk that temporary files lie on."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free - _SPARE
    if size > free:
        found = f"needs {size / 1e9:.1f} GB of temporary files, and {max(free, 0) / 1e9:.1f} GB are free in {folder}"
        raise InputError(path, found, "less, or TMPDIR set to a folder with more room")


def array_of(file: IO[bytes], shape: Sequence[int], dtype: np.dtype | type) -> np.ndarray:
    """What was written to a `scratch_file`, as an array in memory or, of a larger one, as a view of the file."""
    file.flush()
    if math.prod(shape) * np.dtype(dtype).itemsize > IN_MEMORY:
        return np.memmap(file, dtype, "r+", shape=tuple(shape))
    file.seek(0)
    return np.fromfile(file, dtype, math.prod(shape)).reshape(shape)


def let_go(array: np.ndarray) -> None:
    """Take the pages of a scratch array out of this process' memory; they are read again when needed."""
    while isinstance(array, np.ndarray):
        array = array.base
    if isinstance(array, mmap.mmap) and hasattr(array, "madvise"):
        array.madvise(mmap.MADV_DONTNEED)
