"""Volume and longest diameter, against all pairs of voxels."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pipeline.measures import convex_corners, longest_diameter_mm, volume_ml
from pipeline.tracks import Track, Tracking


def tracking(voxels: np.ndarray) -> Tracking:
    rles = {
        index: coco_mask.encode(np.asfortranarray(mask, np.uint8)) for index, mask in enumerate(voxels) if mask.any()
    }
    return Tracking(voxels.shape, (Track("lung", 3, 0.5, (0,), rles),), "int8", {})


@pytest.mark.parametrize("seed", range(30))
def test_longest_diameter_is_that_of_all_pairs(seed):
    random = np.random.default_rng(seed)
    voxels = random.random((6, 9, 8)) < random.uniform(0.02, 0.6)
    voxels[2, 3, 4] = True
    steps = random.normal(size=(3, 3))  # oblique and sheared
    points = np.argwhere(voxels) @ steps
    expected = np.linalg.norm(points[:, None] - points[None], axis=2).max()
    assert longest_diameter_mm(tracking(voxels), 0, steps) == pytest.approx(expected)
    assert volume_ml(tracking(voxels), 0, steps) == pytest.approx(voxels.sum() * abs(np.linalg.det(steps)) / 1000)


@pytest.mark.parametrize(
    ("box", "longest"),
    [
        pytest.param(np.s_[0:1, 0:1, 0:1], 0, id="one-voxel"),
        pytest.param(np.s_[1:4, 2:3, 2:3], 8, id="across-slices"),
        pytest.param(np.s_[2:3, 1:4, 1:6], np.hypot(2 * 0.5, 4 * 2), id="within-a-slice"),
    ],
)
def test_boxes(box, longest):
    voxels = np.zeros((5, 6, 7), bool)
    voxels[box] = True
    assert longest_diameter_mm(tracking(voxels), 0, np.diag([4, 0.5, 2])) == pytest.approx(longest)


def test_a_large_ball_takes_no_time():
    grid = np.indices((120, 160, 160)) - np.array([60, 80, 80])[:, None, None, None]
    ball = (grid**2).sum(0) <= 58**2
    assert longest_diameter_mm(tracking(ball), 0, np.eye(3)) == 116


def test_corners():
    ring = np.zeros((7, 8), bool)
    ring[1:6, 2:7] = True
    ring[2:5, 3:6] = False
    assert convex_corners(ring).tolist() == [[1, 2], [1, 6], [5, 2], [5, 6]]
    assert convex_corners(np.zeros((3, 3), bool)).tolist() == []
    line = np.eye(5, dtype=bool)
    assert convex_corners(line).tolist() == [[0, 0], [4, 4]]
