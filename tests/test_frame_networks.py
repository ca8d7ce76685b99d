"""Networks on many frames at a time."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from pathlib import Path

import numpy as np
import pytest

from pipeline import AutoSegmenter, InputError
from pipeline.frame_networks import FrameNetworks
from pipeline.phantoms import write_phantoms
from pipeline.scan import read_scan
from pipeline.stack import Stack
from pipeline.time_limit import time_limit

WHO = ContextVar("who", default="nobody")


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_come_in_order(threads):
    networks = FrameNetworks(None, None, threads)
    assert list(networks.map(lambda item: item * item, range(7))) == [(item, item * item) for item in range(7)]
    assert list(networks.map(str, [])) == []


def test_as_many_at_a_time_as_there_are_threads():
    """Each of a pair waits for the other, which one after the other would never do."""
    together = threading.Barrier(2, timeout=30)
    assert len(list(FrameNetworks(None, None, 2).map(lambda _: together.wait(), range(8)))) == 8


def test_little_is_computed_ahead():
    begun = []
    results = FrameNetworks(None, None, 2).map(begun.append, range(100))
    next(results)
    assert len(begun) <= 4


@pytest.mark.parametrize("threads", [1, 2])
def test_errors_and_the_context_reach_the_caller(threads):
    networks = FrameNetworks(None, None, threads)
    token = WHO.set("somebody")
    try:
        assert [who for _, who in networks.map(lambda _: WHO.get(), range(3))] == ["somebody"] * 3
    finally:
        WHO.reset(token)
    with pytest.raises(ZeroDivisionError):
        list(networks.map(lambda item: 1 // (item - 3), range(9)))


@pytest.fixture(scope="module")
def segment() -> AutoSegmenter:
    return AutoSegmenter.from_release(threads=2)


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Stack:
    pixels = read_scan(write_phantoms(tmp_path_factory.mktemp("phantoms"))[0][0]).pixels
    return Stack(Path("stack"), "volume", np.stack([pixels, pixels[::-1], pixels[:, ::-1]]))


def test_frames_are_seen_as_images_are(segment, stack):
    networks = segment.frame_networks
    assert segment.frame_networks is networks and networks.detector is not segment.detector
    for frame, found in networks.propose(stack, range(3)):
        alone = segment.detector.propose(stack.pixels(frame))
        assert np.allclose(found.scores, alone.scores, atol=1e-3) and np.array_equal(found.class_ids, alone.class_ids)
    window = segment.segmenter.plan(stack.pixels(0))
    ours, alone = networks.embed(stack, 0, window), segment.segmenter.embed(stack.pixels(0))
    assert np.allclose(ours.features[0], alone.features[0], atol=0.05)


def test_with_one_thread_nothing_is_opened_twice():
    segment = AutoSegmenter.from_release(threads=1)
    assert segment.frame_networks.detector is segment.detector
    assert segment.frame_networks.segmenter is segment.segmenter


def test_a_time_limit_stops_the_threads_too(segment, stack):
    with pytest.raises(InputError, match=r"took longer than 0\.01 s"), time_limit(0.01):
        list(segment.frame_networks.propose(stack, [0, 1, 2] * 30))
