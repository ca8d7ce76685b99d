"""Simulated clicks, by value."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pipeline.segmenter import NEGATIVE, PAD, POSITIVE  # noqa: E402
from pipeline.training.clicks import click_loss, click_on_error, click_on_errors  # noqa: E402

pytestmark = pytest.mark.training


def square(first: int, last: int) -> np.ndarray:
    mask = np.zeros((32, 32), np.float32)
    mask[first:last, first:last] = 1
    return mask


@pytest.mark.parametrize(
    ("found", "true", "point", "label"),
    [
        pytest.param(square(0, 0), square(10, 15), (12.5, 12.5), POSITIVE, id="missed"),
        pytest.param(square(10, 15), square(0, 0), (12.5, 12.5), NEGATIVE, id="too-much"),
        pytest.param(square(4, 9) + square(20, 31), square(4, 9), (25.5, 25.5), NEGATIVE, id="a-second-piece"),
        pytest.param(square(10, 15), square(10, 15), (0, 0), PAD, id="right"),
        pytest.param(square(0, 1), square(0, 0), (0, 0), PAD, id="one-wrong-cell"),
    ],
)
def test_a_click_in_the_middle_of_the_largest_error(found, true, point, label):
    assert click_on_error(found - 0.5, true, None) == (point, label)


def test_random_clicks_lie_on_what_is_wrong():
    found, true, rng = square(5, 20) - 0.5, square(10, 25), np.random.default_rng(0)
    for _ in range(50):
        (x, y), label = click_on_error(found, true, rng)
        inside = true[int(y), int(x)] > 0.5
        assert (found[int(y), int(x)] > 0) != inside
        assert label == (POSITIVE if inside else NEGATIVE)


def test_clicks_of_several_masks_in_input_pixels():
    logits = torch.from_numpy(np.stack([square(0, 0), square(10, 15)]) - 0.5)
    points, labels = click_on_errors(logits, torch.from_numpy(np.stack([square(10, 15), square(10, 15)])), None)
    assert points.tolist() == [[[50, 50]], [[0, 0]]]
    assert labels.tolist() == [[POSITIVE], [PAD]]


@pytest.mark.parametrize(
    ("points", "labels", "logit"),
    [
        pytest.param([[50, 50]], [POSITIVE], 2.0, id="inside-and-right"),
        pytest.param([[50, 50]], [NEGATIVE], -2.0, id="outside-and-wrong"),
        pytest.param([[2, 2]], [NEGATIVE], 1.0, id="outside-and-right"),
        pytest.param([[127.9, 130]], [POSITIVE], -1.0, id="at-the-edge-and-wrong"),
        pytest.param([[50, 50], [0, 0]], [POSITIVE, PAD], 2.0, id="no-click-beside-it"),
    ],
)
def test_the_clicked_cell_counts(points, labels, logit):
    """`logit` is what speaks for the click there: the loss is that cell's, whatever the others are."""
    masks = torch.from_numpy(3 * square(10, 15) - 1)[None]
    loss = click_loss(masks, (torch.tensor([points], dtype=torch.float32), torch.tensor([labels])))
    assert loss.item() == pytest.approx(np.log1p(np.exp(-logit)), abs=1e-6)


def test_no_click_costs_nothing():
    assert click_loss(torch.ones(1, 8, 8), (torch.zeros(1, 1, 2), torch.tensor([[PAD]]))).item() == 0
