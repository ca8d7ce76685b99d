"""A NIfTI file's label map lies on its voxels, however the file orders them."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from pipeline.readers.nifti import label_map_as_stored
from pipeline.scan import read_scan

AXES = [
    pytest.param(np.diag([0.5, 0.8, 3, 1]), (5, 7, 1), id="axial RAS"),
    pytest.param(np.diag([-0.5, 0.8, 3, 1]), (5, 7), id="axial LAS, 2-D"),
    pytest.param(np.diag([2, -0.5, -0.8, 1]), (1, 5, 7), id="sagittal"),
    pytest.param(np.diag([0.5, 2, 0.8, 1]), (5, 1, 7), id="coronal"),
    pytest.param(np.array([[0, 2.0, 0, 1], [0, 0, 3, 2], [4, 0, 0, 3], [0, 0, 0, 1]]), (5, 7, 1, 1), id="turned"),
]


@pytest.mark.parametrize(("affine", "shape"), AXES)
def test_label_map_goes_back_to_the_files_voxels(tmp_path, affine, shape):
    # 0 and 255 survive the window, so the label map that is drawn from the shown pixels must equal the file
    stored = np.random.default_rng(3).integers(0, 2, shape).astype(np.uint8) * 255
    path = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(stored, affine), path)
    scan = read_scan(path)
    labels = label_map_as_stored(path, (scan.pixels[..., 0] > 127).astype(np.uint8))
    assert labels.shape == shape and labels.get_data_dtype() == np.uint8
    assert np.array_equal(labels.affine, nibabel.load(path).affine)
    assert np.array_equal(np.asarray(labels.dataobj), stored // 255)
