"""Several looks become one: exact cases."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.box_fusion import fuse_boxes


def look(*rows: tuple[list[float], float, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    boxes, scores, index = zip(*rows, strict=True) if rows else ([], [], [])
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(index, np.int64)


BOX, NEAR, FAR = [0, 0, 100, 100], [10, 0, 110, 100], [200, 200, 300, 300]


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        pytest.param([look((BOX, 0.3, 0), (BOX, 0.9, 0))], look((BOX, 0.3, 0), (BOX, 0.9, 0)), id="one look stays"),
        pytest.param([look((BOX, 0.8, 1)), look((BOX, 0.4, 1))], look((BOX, 0.6, 1)), id="the same box"),
        pytest.param(
            [look((BOX, 0.75, 1)), look((NEAR, 0.25, 1))], look(([2.5, 0, 102.5, 100], 0.5, 1)), id="weighted by score"
        ),
        pytest.param([look((BOX, 0.8, 1)), look()], look((BOX, 0.4, 1)), id="one look alone counts half"),
        pytest.param(
            [look((BOX, 0.4, 1)), look((BOX, 0.6, 2))],
            look((BOX, 0.3, 2), (BOX, 0.2, 1)),
            id="other classes stay apart",
        ),
        pytest.param(
            [look((BOX, 0.4, 0)), look((FAR, 0.6, 0))], look((FAR, 0.3, 0), (BOX, 0.2, 0)), id="far ones stay apart"
        ),
        pytest.param([look((BOX, 1, 0), (BOX, 1, 0)), look((BOX, 1, 0))], look((BOX, 1, 0)), id="at most 1"),
        pytest.param([look(), look()], look(), id="nothing"),
    ],
)
def test_fusion(looks, expected):
    for found, wanted in zip(fuse_boxes(looks), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
