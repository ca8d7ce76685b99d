"""Pixels, boxes and masks through `geometry`, by value."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipeline.geometry import Resize, box_iou, box_of_mask, xywh_to_xyxy, xyxy_to_xywh

SIZES = [
    pytest.param(1, 1, id="1x1"),
    pytest.param(1, 700, id="one-column"),
    pytest.param(10000, 1, id="one-row"),
    pytest.param(37, 53, id="smaller-than-the-grid"),
    pytest.param(640, 480, id="landscape"),
    pytest.param(333, 1999, id="tall"),
    pytest.param(1500, 1500, id="square"),
]
MODES = ["letterbox", "squash"]


@pytest.mark.parametrize(
    ("width", "height", "size", "mode", "content", "scale"),
    [
        pytest.param(1280, 640, 640, "letterbox", (0, 160, 640, 480), (0.5, 0.5), id="wide-letterbox"),
        pytest.param(320, 640, 640, "letterbox", (160, 0, 480, 640), (1, 1), id="tall-letterbox"),
        pytest.param(1280, 640, 512, "squash", (0, 0, 512, 512), (0.4, 0.8), id="squash"),
        pytest.param(1, 1, 640, "letterbox", (0, 0, 640, 640), (640, 640), id="1x1"),
        pytest.param(10000, 1, 640, "letterbox", (0, 319, 640, 320), (0.064, 1), id="never-thinner-than-a-pixel"),
    ],
)
def test_plan(width, height, size, mode, content, scale):
    resize = Resize.plan(width, height, size, mode)
    assert resize.content == content
    assert resize.scale == pytest.approx(scale)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param((0, 5, 640, "squash"), "positive", id="no-width"),
        pytest.param((5, 5, 0, "squash"), "positive", id="no-input"),
        pytest.param((5, 5, 640, "crop"), "'letterbox' or 'squash'", id="unknown-mode"),
    ],
)
def test_plan_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        Resize.plan(*arguments)


def test_letterbox_puts_the_image_in_the_middle_of_black():
    pixels = np.full((2, 4, 3), (10, 20, 30), np.uint8)
    canvas = Resize.plan(4, 2, 8, "letterbox").image(pixels)
    assert canvas.shape == (8, 8, 3)
    assert (canvas[2:6] == (10, 20, 30)).all()
    assert not canvas[:2].any() and not canvas[6:].any()


def test_squash_fills_the_canvas():
    canvas = Resize.plan(4, 2, 8, "squash").image(np.full((2, 4), 9, np.uint8))
    assert (canvas == 9).all() and canvas.shape == (8, 8)


@pytest.mark.parametrize(
    ("boxes", "factor", "window"),
    [
        pytest.param([(40, 50, 60, 60)], 2, (30, 35, 70, 75), id="a-square-of-twice-the-longer-side"),
        pytest.param([(0, 0, 10, 10)], 3, (0, 0, 30, 30), id="moved-inside-at-a-corner"),
        pytest.param([(180, 80, 200, 100)], 2, (160, 60, 200, 100), id="moved-inside-at-the-far-corner"),
        pytest.param([(40, 10, 80, 20)], 4, (0, 0, 160, 100), id="no-higher-than-the-image"),
        pytest.param([(0, 0, 200, 100)], 2, (0, 0, 200, 100), id="the-whole-image"),
        pytest.param([(20, 20, 30, 30), (50, 40, 60, 50)], 1, (20, 15, 60, 55), id="of-all-boxes-together"),
        pytest.param([(7.25, 7.25, 7.5, 7.5)], 1, (7, 7, 8, 8), id="never-less-than-a-pixel"),
    ],
)
def test_surroundings(boxes, factor, window):
    """Pixels, boxes and masks of the part are those of the part cut out and stretched."""
    resize = Resize.around(np.array(boxes, np.float32), 200, 100, 64, factor)
    assert resize.window == window
    left, top, right, bottom = window
    part = Resize.plan(right - left, bottom - top, 64, "squash")
    pixels = np.random.default_rng(0).integers(0, 256, (100, 200, 3), np.uint8)
    assert np.array_equal(resize.image(pixels), part.image(pixels[top:bottom, left:right]))
    moved = np.array(boxes, np.float32) - np.float32([left, top, left, top])
    np.testing.assert_allclose(resize.boxes(np.array(boxes)), part.boxes(moved), rtol=1e-5, atol=1e-3)
    logits = np.random.default_rng(1).normal(size=(16, 16)).astype(np.float32)
    mask = resize.mask_back(logits)
    expected = np.zeros((100, 200), bool)
    expected[top:bottom, left:right] = part.mask_back(logits)
    assert mask.shape == (100, 200)
    assert np.mean(mask != expected) < 1e-3  # the last digit of a coordinate may decide at 0
    assert not mask[:top].any() and not mask[bottom:].any() and not mask[:, :left].any() and not mask[:, right:].any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_image_equals_pillow_on_the_whole_image(width, height, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    resize = Resize.plan(width, height, 256, mode)
    left, top, right, bottom = resize.content
    expected = Image.fromarray(pixels).resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    assert np.array_equal(resize.image(pixels)[top:bottom, left:right], np.asarray(expected))


def test_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 2, 3\); expected height 2, width 4"):
        Resize.plan(4, 2, 8, "squash").image(np.zeros((4, 2, 3), np.uint8))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_boxes_round_trip(width, height, mode):
    resize = Resize.plan(width, height, 640, mode)
    corners = np.sort(np.random.default_rng(1).random((50, 2, 2)), axis=1) * (width, height)
    boxes = np.concatenate([corners.reshape(-1, 4), [[0, 0, width, height]]]).astype(np.float32)
    back = resize.boxes_back(resize.boxes(boxes))
    assert back.dtype == np.float32
    # float32 holds seven digits, of the larger of both sizes
    np.testing.assert_allclose(back, boxes, atol=2e-6 * max(width, height, 640 / min(resize.scale)))


def test_boxes_by_value():
    resize = Resize.plan(1280, 640, 640, "letterbox")
    boxes = np.array([[0, 0, 1280, 640], [100, 200, 300, 400]], np.float32)
    assert resize.boxes(boxes).tolist() == [[0, 160, 640, 480], [50, 260, 150, 360]]
    assert resize.boxes(np.zeros((0, 4), np.float32)).shape == (0, 4)


def test_boxes_back_are_clipped_to_the_image():
    resize = Resize.plan(1280, 640, 640, "letterbox")
    outside = np.array([[-5, 0, 700, 640]], np.float32)
    assert resize.boxes_back(outside).tolist() == [[0, 0, 1280, 640]]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("band", [1, 7, 512])
def test_mask_in_bands_is_exactly_the_whole_mask(width, height, mode, band):
    resize = Resize.plan(width, height, 512, mode)
    logits = np.random.default_rng(2).normal(size=(128, 128)).astype(np.float32)
    whole = resize.mask_back(logits)
    bands = [resize.mask_back(logits, slice(first, first + band)) for first in range(0, height, band)]
    assert whole.shape == (height, width) and whole.dtype == bool
    assert np.array_equal(np.concatenate(bands), whole)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_mask_back_equals_pillow_up_to_rounding(width, height, mode):
    """Pillow is the reference of the interpolation; it rounds the box to float32, so values at 0 may differ."""
    resize = Resize.plan(width, height, 512, mode)
    logits = np.random.default_rng(3).normal(size=(128, 128)).astype(np.float32)
    box = tuple(edge * 128 / 512 for edge in resize.content)
    reference = np.asarray(Image.fromarray(logits).resize((width, height), Image.Resampling.BILINEAR, box=box))
    clear = np.abs(reference) > 1e-4
    assert np.array_equal(resize.mask_back(logits)[clear], (reference > 0)[clear])


@pytest.mark.parametrize("mode", MODES)
def test_mask_round_trip(mode):
    """A rectangle whose edges fall on the input's grid comes back as it was."""
    mask = np.zeros((300, 600), bool)
    mask[75:150, 150:450] = True
    resize = Resize.plan(600, 300, 128, mode)
    logits = np.where(resize.mask(mask), 5, -5).astype(np.float32)
    assert box_iou(box_of_mask(resize.mask_back(logits)), box_of_mask(mask)).item() > 0.97
    assert (resize.mask_back(logits) == mask).mean() > 0.99


def test_mask_back_by_value():
    """Two cells, -1 and 1, stretched to four pixels: -1, -0.5, 0.5, 1."""
    logits = np.array([[-1, 1], [-1, 1]], np.float32)
    mask = Resize.plan(4, 1, 2, "squash").mask_back(logits)
    assert mask.tolist() == [[False, False, True, True]]


def test_mask_takes_what_is_half_covered():
    mask = np.zeros((4, 4), bool)
    mask[0, :2] = True  # half of the upper left pixel of the input
    assert Resize.plan(4, 4, 1, "squash").mask(np.ones((4, 4), bool)).tolist() == [[True]]
    assert Resize.plan(4, 4, 1, "squash").mask(mask).tolist() == [[False]]


def test_box_formats():
    xyxy = np.array([[1, 2, 4, 8]], np.float32)
    assert xyxy_to_xywh(xyxy).tolist() == [[1, 2, 3, 6]]
    assert xywh_to_xyxy(xyxy_to_xywh(xyxy)).tolist() == xyxy.tolist()
    assert xyxy_to_xywh(np.zeros((0, 4))).shape == (0, 4)


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [
        pytest.param((0, 0, 2, 2), (0, 0, 2, 2), 1.0, id="same"),
        pytest.param((0, 0, 2, 2), (1, 0, 3, 2), 1 / 3, id="half-shifted"),
        pytest.param((0, 0, 2, 2), (2, 0, 4, 2), 0.0, id="touching"),
        pytest.param((0, 0, 4, 4), (1, 1, 3, 3), 0.25, id="inside"),
        pytest.param((1, 1, 1, 1), (1, 1, 1, 1), 0.0, id="empty"),
    ],
)
def test_box_iou(a, b, iou):
    assert box_iou(np.array([a]), np.array([b])).item() == pytest.approx(iou)


def test_box_iou_is_every_box_with_every_other():
    assert box_iou(np.zeros((2, 4)), np.zeros((3, 4))).shape == (2, 3)


def test_box_of_mask():
    mask = np.zeros((5, 6), bool)
    assert box_of_mask(mask).tolist() == [0, 0, 0, 0]
    mask[2, 1] = mask[3, 4] = True
    assert box_of_mask(mask).tolist() == [1, 2, 5, 4]
