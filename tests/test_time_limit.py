"""The limit stops the networks themselves, and only those of its block."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pipeline import AutoSegmenter, InputError
from pipeline.time_limit import time_limit

PIXELS = np.full((64, 64, 3), 90, np.uint8)
BOXES = [[8, 8, 40, 40]]


@pytest.fixture(scope="module")
def segment(release) -> AutoSegmenter:
    return AutoSegmenter.from_release(release.folder, release.precisions[0])


def test_networks_are_stopped_when_the_time_is_up(segment):
    with pytest.raises(InputError, match=r"image: took longer than 0\.001 s"), time_limit(0.001):
        time.sleep(0.1)
        segment(PIXELS, boxes=BOXES)
    assert len(segment(PIXELS, boxes=BOXES)) == 1


def test_within_the_time_nothing_changes(segment):
    expected = segment(PIXELS, boxes=BOXES)
    with time_limit(60):
        found = segment(PIXELS, boxes=BOXES)
    assert np.array_equal(found.mask_logits, expected.mask_logits)


def test_other_errors_pass_as_they_are():
    with pytest.raises(KeyError), time_limit(60):
        raise KeyError("a")
