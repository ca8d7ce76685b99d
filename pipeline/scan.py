"""Read one scan, whatever kind of file it is."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from pipeline.readers.content import content_of

#: What reads which content. Imported when first needed: pydicom and nibabel take longer to load than a PNG to read.
#: Volumes, series and videos are refused inside the readers; who reads them gets an own function there.
_READERS = {
    "picture": "pipeline.readers.picture",
    "dicom": "pipeline.readers.dicom",
    "nifti": "pipeline.readers.nifti",
}
_CHATTY_LOGGERS = ("PIL", "nibabel.global", "pydicom", "pylibjpeg")
_ONE_AT_A_TIME = threading.Lock()
_STDERR = 2


@dataclass(frozen=True, eq=False)
class Scan:
    """One image as a person would look at it.

    Attributes
    ----------
    path : the file it came from
    pixels : uint8 RGB (H, W, 3), 0..255, upright; grey is three equal channels
    spacing_mm : (row, column) distance of pixel centres in mm, or None where the file gives none
    affine : float64 (4, 4), voxel indices of the file -> mm in RAS+, exactly as a NIfTI file gives it (so before
        the turn to the displayed orientation); None for other files
    """

    path: Path
    pixels: np.ndarray
    spacing_mm: tuple[float, float] | None = None
    affine: np.ndarray | None = None

    def __post_init__(self):
        pixels = self.pixels
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise ValueError(f"Scan.pixels: {pixels.dtype} {pixels.shape}; expected uint8 (H, W, 3) with H, W >= 1")
        if self.affine is not None and self.affine.shape != (4, 4):
            raise ValueError(f"Scan.affine: {self.affine.shape}; expected (4, 4)")


def read_scan(path: str | Path) -> Scan:
    """Read a PNG, JPEG, TIFF, single DICOM or 2-D NIfTI file. The content tells which; the name does not matter.

    How intensities become 0..255: 8 bits are taken as they are; more bits and floats of pictures from least to
    largest; DICOM by its own window; NIfTI as `pipeline.readers.nifti` says.

    Raises
    ------
    InputError
        Where there is no such file, it holds something else, is damaged, has several frames or slices, NaN or
        infinite values, or more than 150 million pixels.
    """
    path = Path(path)
    reader = import_module(_READERS[content_of(path)])
    with quiet():
        return reader.read(path)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the readers' libraries from printing: what matters is raised, and what they quote can name a patient.

    Warnings, loggers and the C libraries' way to stderr belong to the whole process, hence one reading at a time.
    """
    with _ONE_AT_A_TIME, warnings.catch_warnings(), _quiet_loggers(), _quiet_stderr():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _quiet_loggers() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _CHATTY_LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """What libtiff and libjpeg write by themselves, of a damaged file, goes nowhere."""
    try:
        saved = os.dup(_STDERR)
    except OSError:  # a service without stderr
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), _STDERR)
        yield
    finally:
        os.dup2(saved, _STDERR)
        os.close(saved)
