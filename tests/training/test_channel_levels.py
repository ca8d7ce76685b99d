"""Even channels: what becomes white, what stays."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from pipeline.training.channel_levels import even_channels

pytestmark = pytest.mark.training


def channels(*tops: float) -> torch.Tensor:
    """uint8 (1, 3, 64, 64): the same ramp in each channel, up to its own top."""
    ramp = torch.linspace(0, 1, 64).repeat(64, 1)
    return torch.stack([(ramp * top).round() for top in tops])[None].to(torch.uint8)


@pytest.mark.parametrize(
    ("tops", "whites"),
    [
        pytest.param((200, 100, 50), (1, 1, 1), id="each to white"),
        pytest.param((255, 255, 60), (1, 1, 1), id="two are white already"),
        pytest.param((200, 20, 100), (1, 20 * 6 / 255, 1), id="none more than six times as bright"),
        pytest.param((90, 90, 90), (90 / 255,) * 3, id="grey stays"),
        pytest.param((0, 0, 0), (0, 0, 0), id="black stays"),
        pytest.param((120, 0, 0), (1, 0, 0), id="an empty channel"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_levels(tops, whites, dtype):
    images = channels(*tops).to(dtype)
    even = even_channels(images)
    assert (even.dtype, even.shape) == (torch.float32, images.shape)
    np.testing.assert_allclose(even.amax((2, 3))[0], whites, atol=0.03)
    assert even.min() == 0 and even.max() <= 1


def test_a_grey_image_is_untouched_to_the_bit_and_a_neighbour_in_the_batch_changes_nothing():
    grey, colour = channels(90, 90, 90), channels(200, 100, 50)
    both = even_channels(torch.cat([grey, colour]))
    assert torch.equal(both[:1], grey.float() * (1 / 255))
    assert torch.equal(both[1:], even_channels(colour))


def test_a_few_bright_pixels_are_not_what_becomes_white():
    images = channels(100, 80, 60)
    images[:, :, 10, 10] = 255
    assert even_channels(images).quantile(0.99) > 0.9
