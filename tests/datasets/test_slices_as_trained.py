"""A volume that a user gives is cut and windowed as the volumes were that the networks were trained on."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.stack import read_stack

pytest.importorskip("scipy")  # what the data sets are read with

from pipeline.datasets.volume_files import grey_slice

pytestmark = pytest.mark.data


def test_slices_are_those_of_training():
    if "AUTOMEDSEG_DATA" not in os.environ:
        pytest.skip("AUTOMEDSEG_DATA names no folder")
    folder = Path(os.environ["AUTOMEDSEG_DATA"]) / "msd_task04_hippocampus" / "imagesTr"
    for path in sorted(folder.glob("*.nii.gz"))[:80:8]:  # float32 and uint8 ones
        stack = read_stack(path, axis=1)
        for index in range(len(stack)):
            assert np.array_equal(stack.frames[index], grey_slice(path, 1, index))
