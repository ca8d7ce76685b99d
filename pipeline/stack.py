"""Many images in order: the slices of a volume, or the frames of a video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Literal

import nibabel
import numpy as np

from pipeline.errors import InputError
from pipeline.grid import Grid
from pipeline.readers.content import ACCEPTED_STACKS, stack_content_of
from pipeline.readers.movie import Movie
from pipeline.readers.volume import Volume
from pipeline.scan import quiet

#: What reads which volume. Imported when first needed, as those of single images are.
_VOLUMES = {
    "nifti": "pipeline.readers.nifti_volume",
    "nrrd": "pipeline.readers.nrrd",
    "metaimage": "pipeline.readers.metaimage",
}


@dataclass(frozen=True, eq=False)
class Stack:
    """The slices of a volume along one axis, or the frames of a video, each as a person would look at it.

    Attributes
    ----------
    path : the file or folder it came from
    kind : "volume" or "video"
    frames : uint8 (N, H, W) grey or (N, H, W, 3) RGB, 0..255; may be a `numpy.memmap` of a file that is gone when the
        stack is, so that its length does not matter for the memory
    spacing_mm : (between slices, row, column) distances of centres in mm, between frames 0; None where unknown
    frame_seconds : time between two frames; None for volumes and where unknown
    axis : for volumes the patient's axis that the slices are cut along: 0 right, 1 front, 2 head
    notes : sentences that a person should read, such as on slices that are missing
    grid : for volumes where the file's voxels lie
    """

    path: Path
    kind: Literal["volume", "video"]
    frames: np.ndarray
    spacing_mm: tuple[float, float, float] | None = None
    frame_seconds: float | None = None
    axis: int | None = None
    notes: tuple[str, ...] = ()
    grid: Grid | None = None

    def __post_init__(self):
        frames = self.frames
        if frames.dtype != np.uint8 or frames.shape[3:] not in ((), (3,)) or frames.ndim < 3 or not frames.size:
            raise ValueError(f"Stack.frames: {frames.dtype} {frames.shape}; expected uint8 (N, H, W) or (N, H, W, 3)")

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.pixels(index) for index in range(len(self)))

    @classmethod
    def of_volume(cls, path: Path, volume: Volume, axis: int | None = None) -> Stack:
        """The slices of a volume along one of the patient's axes; None takes the one that its slices were made along.

        That is the axis along which voxels are clearly further apart than along both others; where none is, 2.

        Slices come from left to right, from the back to the front, or from the feet to the head. In each, the patient's
        left side is at the left of the image (of a sagittal slice the back), and at its top the head (of an axial slice
        the front): as the networks saw volumes in training. `read_scan` shows a NIfTI file of one slice as a
        radiologist expects it, mirrored to that: the patient's right side at the left, of a sagittal slice the front.
        """
        grid = volume.grid
        axis = next(known for known in (axis, grid.thinnest, 2) if known is not None)
        frames = _slices(grid.canonical(volume.voxels), axis)
        return cls(path, "volume", frames, _spacing(grid, axis), axis=axis, notes=volume.notes, grid=grid)

    @classmethod
    def of_movie(cls, path: Path, movie: Movie) -> Stack:
        """The frames of a video."""
        spacing = movie.spacing_mm and (0.0, *movie.spacing_mm)
        return cls(path, "video", movie.frames, spacing, movie.frame_seconds, notes=movie.notes)

    def along(self, axis: int) -> Stack:
        """The same volume cut along another of the patient's axes: 0 right, 1 front, 2 head. Nothing is copied.

        Raises
        ------
        ValueError
            For a video, which has no other axis.
        """
        if self.grid is None:
            raise ValueError("Stack.along: a video can't be cut along another axis")
        frames = _slices(_canonical(self.frames, self.axis), axis)
        return replace(self, frames=frames, spacing_mm=_spacing(self.grid, axis), axis=axis)

    @property
    def steps_mm(self) -> np.ndarray | None:
        """Of a volume, float64 (3, 3), rows: where one slice, one row and one column further leads in the patient."""
        return None if self.grid is None else self.grid.steps_mm(self.axis)

    def to_file(self, values: np.ndarray, note: str | None = None) -> nibabel.Nifti1Image:
        """Values of each pixel, (N, H, W) as in this stack, as a NIfTI image.

        Of a NIfTI file it has the file's own shape, order of voxels, affine and header; of other volumes their order
        of voxels, and the affine that leads to the same place.
        """
        if self.grid is None or values.shape != self.frames.shape[:3]:
            raise ValueError(f"Stack.to_file: {values.shape}; expected values of a volume {self.frames.shape[:3]}")
        with quiet():  # nibabel says what it mends in the input's header
            return self.grid.image(self.grid.stored(_canonical(values, self.axis)), note)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of a frame."""
        return self.frames.shape[1:3]

    def pixels(self, index: int) -> np.ndarray:
        """Frame `index`, uint8 RGB (H, W, 3)."""
        frame = np.asarray(self.frames[index])
        return frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=2)


def read_stack(path: str | Path, *, axis: int | None = None, window: tuple[float, float] | None = None) -> Stack:
    """Read a volume or a video. The content tells which; the name does not matter.

    Parameters
    ----------
    path
        A NIfTI, NRRD (.nrrd, .nhdr) or MetaImage (.mha, .mhd) volume; a DICOM file of several frames; an MP4, MOV, AVI,
        Matroska, WebM or GIF video; a folder of the DICOM slices of one series, or else of numbered pictures.
    axis
        Of a volume, which of the patient's axes to cut along: 0 right, 1 front, 2 head. None: see `Stack.of_volume`.
    window
        (centre, width) of the intensities that become 0 to 255, as Hounsfield units of CT. None: what the networks
        were trained on, see `pipeline.readers.voxels.grey_voxels`; of DICOM its own window. Videos and colours are
        taken as they are.

    Raises
    ------
    InputError
        Where there is no such path, it holds something else, is damaged, has one slice, more than three axes, or is
        larger than the limits. What can be made good is, and is said in `notes`.
    """
    path = Path(path)
    if axis not in (None, 0, 1, 2):
        raise InputError("axis", repr(axis), "0 (right), 1 (front) or 2 (head)")
    if window is not None and not (np.isfinite(window).all() and window[1] > 0):
        raise InputError("window", repr(window), "a centre, and a width above 0")
    found = _read_folder(path, window) if path.is_dir() else _read_file(path, window)
    return Stack.of_volume(path, found, axis) if isinstance(found, Volume) else Stack.of_movie(path, found)


def _read_file(path: Path, window: tuple[float, float] | None) -> Volume | Movie:
    content = stack_content_of(path)
    if content in _VOLUMES:
        with quiet():
            return import_module(_VOLUMES[content]).read(path, window)
    if content == "dicom":
        from pipeline.readers import dicom_frames

        with quiet():
            return dicom_frames.read(path, window)
    from pipeline.readers import video

    return video.read(path, content)


def _read_folder(folder: Path, window: tuple[float, float] | None) -> Volume | Movie:
    from pipeline.readers import dicom_series, frame_folder

    try:
        with quiet():
            if dicom_series.dicom_files(folder):
                return dicom_series.read(folder, window)
            if frame_folder.frame_files(folder):
                return frame_folder.read(folder)
    except PermissionError:
        raise InputError(folder, "no permission to read it", "a folder that you may read") from None
    raise InputError(folder, "a folder without DICOM slices or frames", ACCEPTED_STACKS)


def _slices(canonical: np.ndarray, axis: int) -> np.ndarray:
    """Voxels left to right, back to front, feet to head -> slices (N, H, W) along one axis, the later other axis up."""
    return np.rot90(np.moveaxis(canonical, axis, 0), axes=(1, 2))


def _canonical(frames: np.ndarray, axis: int) -> np.ndarray:
    """The way back of `_slices`."""
    return np.moveaxis(np.rot90(frames, -1, axes=(1, 2)), 0, axis)


def _spacing(grid: Grid, axis: int) -> tuple[float, float, float] | None:
    if grid.spacing_mm is None:
        return None
    column, row = (grid.spacing_along(other) for other in range(3) if other != axis)
    return grid.spacing_along(axis), row, column
