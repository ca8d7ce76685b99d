"""Images as another hospital's devices might give them: the same anatomy, in the same place."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from pipeline.training import other_device as module
from pipeline.training.augment import random_turn, vary_intensity
from pipeline.training.other_device import CHANGES, other_device, tinted

pytestmark = pytest.mark.training


def disc(colour: tuple[float, float, float]) -> np.ndarray:
    """A bright disc of 64 pixels across on a darker ground with some grain, below ten black rows."""
    rows, columns = np.mgrid[:128, :160]
    inside = (rows - 70) ** 2 + (columns - 80) ** 2 < 32**2
    grain = np.random.default_rng(3).uniform(0.9, 1.1, inside.shape)
    levels = np.where(inside, 170, 60) * grain
    levels[:10] = 0
    return (levels[..., None] * colour).astype(np.uint8)


GREY, COLOUR = disc((1.0, 1.0, 1.0)), disc((1.0, 0.6, 0.5))
#: On both sides of the disc's right edge.
INSIDE, OUTSIDE = (slice(60, 80), slice(98, 108)), (slice(60, 80), slice(116, 126))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("change", [*CHANGES, lambda p, rng: other_device(p, "X-ray", rng)])
def test_what_is_there_stays_there(change, pixels, seed):
    before = pixels.copy()
    changed = change(pixels, np.random.default_rng(seed))
    assert (changed.shape, changed.dtype) == (pixels.shape, np.uint8)
    assert np.array_equal(pixels, before)
    assert changed[INSIDE].mean() > 1.2 * changed[OUTSIDE].mean()
    if pixels is GREY:
        assert np.array_equal(changed, changed[..., :1].repeat(3, axis=2))


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_is_one(change):
    changed = change(COLOUR, np.random.default_rng(1))
    assert np.abs(changed[10:].astype(int) - COLOUR[10:]).mean() > 0.5
    assert np.array_equal(changed, change(COLOUR, np.random.default_rng(1)))
    assert not np.array_equal(changed, change(COLOUR, np.random.default_rng(2)))


def test_black_stays_black_and_small_images_pass():
    for seed in range(20):
        assert other_device(GREY, "X-ray", np.random.default_rng(seed))[:10].max() == 0
        assert other_device(GREY[40:51, 60:69], "X-ray", np.random.default_rng(seed)).shape == (11, 9, 3)


@pytest.mark.parametrize(("modality", "tinted_sometimes"), [("brain MRI", False), ("colonoscopy", True)])
def test_sequences_are_not_tinted(monkeypatch, modality, tinted_sometimes):
    monkeypatch.setattr(module, "CHANGES", (tinted,))
    changed = [other_device(COLOUR, modality, np.random.default_rng(seed)) for seed in range(20)]
    assert any(not np.array_equal(pixels, COLOUR) for pixels in changed) == tinted_sometimes


@pytest.mark.parametrize(
    ("modality", "share", "most"),
    [("brain MRI", 0.0, 12), ("brain MRI", 0.3, 282), ("chest X-ray", 0.3, 12), ("colonoscopy", 0.3, 180)],
)
def test_mri_is_turned_by_right_angles(modality, share, most):
    rng = np.random.default_rng(0)
    turns = np.array([random_turn(modality, rng, share) for _ in range(600)])
    assert 0.9 * most < np.abs(turns).max() <= most
    if most == 282:
        quarters = np.round(turns / 90).astype(int)
        assert np.abs(turns - 90 * quarters).max() <= 12
        assert np.all(np.abs(np.bincount(quarters) / len(turns) - (0.7, 0.1, 0.1, 0.1)) < 0.04)


def test_as_often_as_asked():
    plain = [vary_intensity(COLOUR, "colonoscopy", np.random.default_rng(seed)) for seed in range(200)]
    never = [vary_intensity(COLOUR, "colonoscopy", np.random.default_rng(seed), 0.0) for seed in range(200)]
    now_and_then = [vary_intensity(COLOUR, "colonoscopy", np.random.default_rng(seed), 0.3) for seed in range(200)]
    assert all(map(np.array_equal, plain, never))
    changed = sum(not np.array_equal(a, b) for a, b in zip(plain, now_and_then, strict=True))
    assert 30 < changed < 90
