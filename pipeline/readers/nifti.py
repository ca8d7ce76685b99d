"""NIfTI files of one slice, through nibabel."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from pipeline.errors import InputError
from pipeline.readers.content import DAMAGE, check_size, damaged
from pipeline.readers.intensity import fill_rgb, row_bands, stretch, value_range
from pipeline.scan import Scan

#: Voxel axes of a file that does not say how they lie, by NIfTI's own rule: to the left, the front, the head.
_UNSTATED = np.array([[0, -1], [1, 1], [2, 1]])
MM_PER_UNIT = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}
#: Values that the window is taken from; of a larger slice every n-th row and column is looked at.
_WINDOW_SAMPLE = 4_000_000
_CHUNK = 1 << 20
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
            scan = _read_slice(path, _image(stream))
            while stream.read(_CHUNK):  # gzip compares its checksum at the end of the file
                pass
            return scan
    except InputError:
        raise
    except (*DAMAGE, HeaderDataError, ImageFileError, WrapStructError):
        raise damaged(path, "NIfTI") from None


def label_map_as_stored(path: Path, label_map: np.ndarray, note: str | None = None) -> nibabel.Nifti1Image:
    """The label map of a file that `read` has read, uint8 (H, W), with the file's own axes, shape and affine.

    The way back of `read`: a viewer lays the result over the file, voxel on voxel. `note` goes into the header's
    description, which takes 79 letters.
    """
    with open_file(path) as stream:
        image = _image(stream)
    axes = patient_axes(image.affine)
    shape = _slice_shape(path, image)
    across = int(axes[2 - shape[::-1].index(1), 0])
    volume = np.moveaxis(label_map.swapaxes(0, 1)[::-1, ::-1][None], 0, across)
    back = nibabel.orientations.ornt_transform(np.array([[0, 1], [1, 1], [2, 1]]), axes)
    stored = nibabel.apply_orientation(volume, back).reshape(image.shape)
    labels = type(image)(np.ascontiguousarray(stored), image.affine)
    labels.header.set_xyzt_units(image.header.get_xyzt_units()[0])
    for name in ("qform_code", "sform_code"):  # which space the affine leads to
        labels.header[name] = image.header[name]
    if note:
        labels.header["descrip"] = note.encode("ascii", "replace")[:79]
    return labels


def open_file(path: Path):
    """The bytes of a file, unzipped where they are zipped."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if zipped else path.open("rb")


def read_header(stream) -> nibabel.Nifti1Header:
    """The header of an open file, without its extensions, which can be of any length and name a patient."""
    kind = _kind(stream).header_class
    return kind(stream.read(kind.template_dtype.itemsize), check=False)


def _image(stream) -> nibabel.Nifti1Image:
    return _kind(stream).from_stream(stream)


def _kind(stream) -> type[nibabel.Nifti1Image]:
    second = b"\x02" in stream.read(4)  # 540, the length of NIfTI-2's header, is 0x21c; NIfTI-1's is 0x15c
    stream.seek(0)
    return nibabel.Nifti2Image if second else nibabel.Nifti1Image


def _read_slice(path: Path, image: nibabel.Nifti1Image) -> Scan:
    shape = _slice_shape(path, image)
    axes = patient_axes(image.affine)
    across = int(axes[2 - shape[::-1].index(1), 0])  # the last voxel axis of one slice, as an axis of the patient
    zooms = (*image.header.get_zooms(), 1.0, 1.0)[:3]
    column_mm, row_mm = (float(zooms[list(axes[:, 0]).index(axis)]) for axis in range(3) if axis != across)
    volume = nibabel.apply_orientation(image.dataobj.get_unscaled().reshape(shape), axes)
    # The axes left point to the right, front or head; the image runs the other way, rows first.
    plane = np.moveaxis(volume, across, 0)[0][::-1, ::-1].swapaxes(0, 1)
    pixels = np.empty((*plane.shape, 3), np.uint8)
    if plane.dtype.names:
        fill_rgb(pixels, lambda rows: np.stack([plane[rows][channel] for channel in "RGB"], axis=-1))
    else:
        fill_rgb(pixels, _windowed(path, plane, float(image.dataobj.slope), float(image.dataobj.inter)))
    return Scan(path, pixels, _spacing_mm(row_mm, column_mm, image.header), image.affine)


def _slice_shape(path: Path, image: nibabel.Nifti1Image) -> tuple[int, int, int]:
    """The shape as three axes, at least one of length 1; whatever else the header says is refused."""
    stated = tuple(int(n) for n in image.shape)
    shape = stated
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) != 3:
        raise InputError(path, f"{len(shape)}-D image {stated}", _ONE_SLICE)
    if min(shape) > 1:
        raise InputError(path, f"3-D volume {stated}", _ONE_SLICE)
    if min(shape) < 1:
        raise InputError(path, f"image {stated} without voxels", _ONE_SLICE)
    check_size(path, *sorted(shape)[1:])
    if image.get_data_dtype().kind not in "iufV":
        raise InputError(path, "complex numbers", "real numbers or RGB colours")
    return shape


def patient_axes(affine: np.ndarray) -> np.ndarray:
    """For each voxel axis: the patient's axis that is nearest (0 right, 1 front, 2 head) and the sign, (3, 2)."""
    if not np.isfinite(affine).all():
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
        return plane[rows][::step, ::step] * np.float64(slope) + intercept

    low, high = value_range(path, map(values, row_bands(*plane.shape)))
    sample = values(slice(None), math.ceil(math.sqrt(plane.size / _WINDOW_SAMPLE)))
    inside = sample[sample > 0]
    if low >= 0 and inside.size:
        darkest, brightest = np.percentile(inside, (0.5, 99.5))
        if darkest < brightest:
            low, high = float(darkest), float(brightest)
    return lambda rows: stretch(values(rows), low, high)
