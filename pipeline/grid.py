"""The voxels of a file in the patient: from the file's order to the patient's axes, and back."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation, io_orientation, ornt_transform
from nibabel.spatialimages import HeaderDataError

#: The patient's axes, the way the voxels of a canonical volume run.
AXES = ("left to right", "back to front", "feet to head")
#: Of the numbers of an affine, in mm: a thousand kilometres. Squares of far larger ones are infinite.
_LARGEST_MM = 1e9
_CANONICAL = np.array([[0, 1], [1, 1], [2, 1]])


def leads_somewhere(affine: np.ndarray) -> bool:
    """Whether the numbers of an affine are those of places, not NaN, infinite or beyond all measure."""
    return bool((np.abs(affine) < _LARGEST_MM).all())


def nifti_image(
    kind: type[nibabel.Nifti1Image], values: np.ndarray, affine: np.ndarray, header: nibabel.Nifti1Header | None = None
) -> nibabel.Nifti1Image:
    """An image with an affine, or where that leads nowhere with what the header says as it stands."""
    try:
        return kind(values, affine, header)
    except HeaderDataError:
        return kind(values, None, header)


@dataclass(frozen=True, eq=False)
class Grid:
    """Where a file's voxels lie.

    Attributes
    ----------
    shape : voxels along the file's three axes
    affine : float64 (4, 4), voxel indices of the file -> mm in RAS+ (to the right, the front, the head)
    directions : int (3, 2): for each axis of the file the patient's axis that is nearest (0 right, 1 front, 2 head) and
        the sign
    spacing_mm : distance of voxel centres along the file's axes in mm; None where the file gives none
    header : of a NIfTI file its header, with the shape as the file states it
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    directions: np.ndarray
    spacing_mm: tuple[float, float, float] | None = None
    header: nibabel.Nifti1Header | None = None

    @classmethod
    def of_affine(cls, shape: tuple[int, int, int], affine: np.ndarray) -> Grid:
        """Of a file that gives an affine and nothing else; one that leaves an axis without length counts as none."""
        finite = leads_somewhere(affine)
        spacing = np.linalg.norm(affine[:3, :3], axis=0) if finite else np.zeros(3)
        known = finite and (spacing > 0).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-12
        directions = io_orientation(affine).astype(int) if known else _CANONICAL
        return cls(shape, affine, directions, tuple(map(float, spacing)) if known else None)

    def canonical(self, voxels: np.ndarray) -> np.ndarray:
        """A view of voxels (X, Y, Z) or (X, Y, Z, 3) in the file's order running left to right, back to front and
        feet to head."""
        return apply_orientation(voxels, self.directions)

    def stored(self, canonical: np.ndarray) -> np.ndarray:
        """The way back of `canonical`, a view."""
        return apply_orientation(canonical, ornt_transform(_CANONICAL, self.directions))

    def spacing_along(self, axis: int) -> float | None:
        """Distance of voxel centres along one of the patient's axes in mm."""
        return None if self.spacing_mm is None else self.spacing_mm[list(self.directions[:, 0]).index(axis)]

    def steps_mm(self, axis: int) -> np.ndarray | None:
        """Rows: where one slice, one row and one column further leads, in mm, in slices along a patient's axis."""
        if self.spacing_mm is None:
            return None
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        steps = np.zeros((3, 3))
        for place, (along, sign) in enumerate(self.directions):
            # the file may measure in metres, and its voxels may lie obliquely, which the spacing alone does not tell
            steps[int(along)] = self.affine[:3, place] / lengths[place] * self.spacing_mm[place] * sign
        column, row = (other for other in range(3) if other != axis)
        return np.stack([steps[axis], -steps[row], steps[column]])

    @property
    def thinnest(self) -> int | None:
        """The patient's axis along which voxels are clearly further apart than along both others, if there is one."""
        if self.spacing_mm is None:
            return None
        order = np.argsort(self.spacing_mm)
        far, next_far = self.spacing_mm[order[2]], self.spacing_mm[order[1]]
        return int(self.directions[order[2], 0]) if far >= _CLEARLY * next_far else None

    def image(self, values: np.ndarray, note: str | None = None) -> nibabel.Nifti1Image:
        """Values of each voxel (X, Y, Z) in the file's order as a NIfTI image with the file's affine and header.

        `note` goes into the header's description, which takes 79 letters.
        """
        if self.header is None and self.spacing_mm is None:
            image = nibabel.Nifti1Image(values, None, dtype=values.dtype)
        elif self.header is None:
            image = nibabel.Nifti1Image(values, self.affine, dtype=values.dtype)
            image.set_sform(self.affine, "scanner")
            image.set_qform(self.affine, "scanner", strip_shears=True)
            image.header.set_xyzt_units("mm")
        else:
            kind = nibabel.Nifti2Image if isinstance(self.header, nibabel.Nifti2Header) else nibabel.Nifti1Image
            header = self.header.copy()
            header.set_data_dtype(values.dtype)
            header["cal_min"] = header["cal_max"] = 0  # how bright the scan is shown
            for text in ("db_name", "aux_file", "intent_name"):  # may name a patient
                if text in header:  # NIfTI-2 has no db_name
                    header[text] = b""
            image = nifti_image(kind, values.reshape(self.header.get_data_shape()), self.affine, header)
        image.header["descrip"] = (note or "").encode("ascii", "replace")[:79]
        return image


#: How many times as far apart the slices lie as the pixels of a slice before the choice of the axis is clear.
_CLEARLY = 1.25
