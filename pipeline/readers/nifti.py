"""NIfTI files of one slice, through nibabel."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

from pipeline.errors import InputError
from pipeline.grid import leads_somewhere, nifti_image
from pipeline.readers.content import check_size, damaged
from pipeline.readers.intensity import fill_rgb, row_bands, stretch, value_range
from pipeline.readers.nifti_file import (
    BROKEN,
    MM_PER_UNIT,
    check_type,
    open_file,
    read_header,
    scaling,
    stored_voxels,
    without_ones,
)
from pipeline.scan import Scan, quiet
from pipeline.scratch import let_go

#: Voxel axes of a file that does not say how they lie, by NIfTI's own rule: to the left, the front, the head.
_UNSTATED = np.array([[0, -1], [1, 1], [2, 1]])
#: Values that the window is taken from; of a larger slice every n-th row and column is looked at.
_WINDOW_SAMPLE = 4_000_000
_ONE_SLICE = "a 2-D image or a 3-D one of a single slice. Pick one slice first."


def read(path: Path) -> Scan:
    """A 2-D image, or a 3-D one with a single slice along one axis.

    Shown as a radiologist expects, whatever the order of the voxels in the file: at the left of the image the
    patient's right side (of a sagittal slice the front), at its top the front (of a sagittal or coronal slice the
    head). An oblique slice is turned by its nearest axes.

    The darkest and the brightest half per cent of what is above zero become 0 and 255, as MedSAM prepares MRI
    (bowang-lab/MedSAM, `pre_CT_MR.py`); a file with negative values (CT) goes from its least value to its largest.
    Colours are taken as they are.
    """
    try:
        with open_file(path) as stream:
            header = read_header(stream)
            shape = _slice_shape(path, header)
            return _scan(path, header, shape, stored_voxels(path, stream, header, shape))
    except InputError:
        raise
    except BROKEN:
        raise damaged(path, "NIfTI") from None


def label_map_as_stored(path: Path, label_map: np.ndarray, note: str | None = None) -> nibabel.Nifti1Image:
    """The label map of a file that `read` has read, uint8 (H, W), with the file's own axes, shape and affine.

    The way back of `read`: a viewer lays the result over the file, voxel on voxel. `note` goes into the header's
    description, which takes 79 letters.
    """
    with open_file(path) as stream:
        header = read_header(stream)
    affine = header.get_best_affine()
    shape = _slice_shape(path, header)
    stored = _in_order_of_file(label_map, shape, patient_axes(affine)).reshape(header.get_data_shape())
    kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    with quiet():  # numpy says what it makes of numbers that lead nowhere
        labels = nifti_image(kind, np.ascontiguousarray(stored), affine)
    labels.header.set_xyzt_units(header.get_xyzt_units()[0])
    for name in ("qform_code", "sform_code"):  # which space the affine leads to
        labels.header[name] = header[name]
    if note:
        labels.header["descrip"] = note.encode("ascii", "replace")[:79]
    return labels


def _scan(path: Path, header: nibabel.Nifti1Header, shape: tuple[int, int, int], stored: np.ndarray) -> Scan:
    axes = patient_axes(header.get_best_affine())
    zooms = (*header.get_zooms(), 1.0, 1.0)[:3]
    across = int(axes[_single(shape), 0])
    column, row = (list(axes[:, 0]).index(axis) for axis in range(3) if axis != across)
    pixels = np.empty((shape[row], shape[column], 3), np.uint8)
    # filled in the file's order, so that what lies on the disk is read once, one part after the other
    out = _in_order_of_file(pixels, shape, axes).squeeze(_single(shape)).swapaxes(0, 1)
    plane = stored.reshape(shape, order="F").squeeze(_single(shape)).T
    if plane.dtype.names:
        fill_rgb(out, lambda rows: np.stack([plane[rows][channel] for channel in "RGB"], axis=-1))
    else:
        fill_rgb(out, _windowed(path, plane, *scaling(header)))
    return Scan(path, pixels, _spacing_mm(float(zooms[row]), float(zooms[column]), header), header.get_best_affine())


def _single(shape: tuple[int, int, int]) -> int:
    """The last voxel axis of one slice."""
    return 2 - shape[::-1].index(1)


def _in_order_of_file(image: np.ndarray, shape: tuple[int, int, int], axes: np.ndarray) -> np.ndarray:
    """An upright image (H, W) or (H, W, 3) as a view in the file's order of voxels, of `shape` and the colours.

    The patient's axes point to the right, front or head; the image runs the other way, rows first.
    """
    across = int(axes[_single(shape), 0])
    volume = np.moveaxis(image.swapaxes(0, 1)[::-1, ::-1][None], 0, across)
    back = nibabel.orientations.ornt_transform(np.array([[0, 1], [1, 1], [2, 1]]), axes)
    return nibabel.apply_orientation(volume, back)


def _slice_shape(path: Path, header: nibabel.Nifti1Header) -> tuple[int, int, int]:
    """The shape as three axes, at least one of length 1; whatever else the header says is refused."""
    stated = tuple(int(n) for n in header.get_data_shape())
    shape = without_ones(stated)
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) != 3:
        raise InputError(path, f"{len(shape)}-D image {stated}", _ONE_SLICE)
    if min(shape) > 1:
        raise InputError(path, f"3-D volume {stated}", _ONE_SLICE)
    if min(shape) < 1:
        raise InputError(path, f"image {stated} without voxels", _ONE_SLICE)
    check_size(path, *sorted(shape)[1:])
    check_type(path, header)
    return shape


def patient_axes(affine: np.ndarray) -> np.ndarray:
    """For each voxel axis: the patient's axis that is nearest (0 right, 1 front, 2 head) and the sign, (3, 2)."""
    if not leads_somewhere(affine):
        return _UNSTATED
    axes = nibabel.io_orientation(affine)
    lost = np.isnan(axes[:, 0])
    if lost.sum() > 1:
        return _UNSTATED
    if lost.any():  # a slice without thickness: what is left over is across it
        axes[lost] = (3 - np.nansum(axes[:, 0]), 1)
    return axes.astype(int)


def _spacing_mm(row: float, column: float, header: nibabel.Nifti1Header) -> tuple[float, float] | None:
    unit = MM_PER_UNIT[header.get_xyzt_units()[0]]
    spacing = row * unit, column * unit
    return spacing if all(math.isfinite(mm) and mm > 0 for mm in spacing) else None


def _windowed(path: Path, plane: np.ndarray, slope: float, intercept: float) -> Callable[[slice], np.ndarray]:
    """Rows -> uint8 grey of raw values (H, W)."""

    def values(rows: slice, step: int = 1) -> np.ndarray:
        found = plane[rows][::step, ::step] * np.float64(slope) + intercept
        let_go(plane)
        return found

    low, high = value_range(path, map(values, row_bands(*plane.shape)))
    sample = values(slice(None), math.ceil(math.sqrt(plane.size / _WINDOW_SAMPLE)))
    inside = sample[sample > 0]
    if low >= 0 and inside.size:
        darkest, brightest = np.percentile(inside, (0.5, 99.5))
        if darkest < brightest:
            low, high = float(darkest), float(brightest)
    return lambda rows: stretch(values(rows), low, high)
