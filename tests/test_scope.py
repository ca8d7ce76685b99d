"""What is strange, and which classes an image is not of, from its distances to the kinds."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import AutoSegmenter
from pipeline.phantoms import write_phantoms
from pipeline.scan import read_scan
from pipeline.scope import Scope

LUNG = 3


@pytest.mark.parametrize(
    ("kinds", "distances", "outside", "others"),
    [
        pytest.param((), [1.2], False, [], id="older: the nearest alone"),
        pytest.param((), [4.5], True, [], id="older, strange"),
        pytest.param((7, 3, 5), [1, 2.9, 3], False, [], id="none three times as far"),
        pytest.param((7, 3, 5), [6.1, 2, 6], False, [7], id="one"),
        pytest.param((7, 3, 5), [60, 50, 5], True, [7, 3], id="strange, and yet nearest to one"),
        pytest.param((7,), [0.1], False, [], id="the only one"),
    ],
)
def test_kinds(kinds, distances, outside, others):
    scope = Scope(None, limit=4, kinds=kinds, ratio=3)
    distances = np.float32(distances)
    assert scope.is_outside(distances) == outside
    assert scope.other_kinds(distances).tolist() == others


@pytest.mark.parametrize(("ratio", "found"), [(np.inf, {"lung"}), (0.5, set())])
def test_what_an_image_of_another_kind_shows_does_not_count(release, tmp_path, ratio, found):
    """With a ratio below 1 every image is of another kind."""
    segment = AutoSegmenter.from_release(release.folder)
    pixels = read_scan(write_phantoms(tmp_path)[0][0]).pixels
    segment.scope = Scope(segment.scope.session, 1e6, (LUNG,), ratio)
    result = segment(pixels)
    assert set(result.labels) == found
    assert len(result) == len(result.mask_logits) == len(result.mask_ious)
    assert result.out_of_scope is False
    box = np.float32([[40, 90, 240, 420]])
    assert segment(pixels, boxes=box).labels == ("region",)  # a person's box stays
