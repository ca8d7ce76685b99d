"""How prepared images are fed to the graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from PIL import Image

from pipeline.training.calibration import Calibration
from pipeline.training.prepared import PreparedImage

pytestmark = pytest.mark.training


@pytest.fixture()
def image(tmp_path) -> PreparedImage:
    """640 x 320 pixels on a canvas: black but for a white square of 64 pixels."""
    canvas = np.zeros((640, 640, 3), np.uint8)
    canvas[160 + 128 : 160 + 192, 64:128] = 255
    Image.fromarray(canvas).save(tmp_path / "a.png")
    box = np.float32([[64, 288, 128, 352]])
    return PreparedImage(Path(tmp_path / "a.png"), "a", "ct", (0, 160, 640, 480), box, np.array([0]), (None,))


@pytest.mark.parametrize(
    ("settings", "bright"),
    [
        pytest.param({}, 64 * 64 / (640 * 320), id="the whole image"),
        pytest.param({"surroundings": 2.0}, 0.25, id="its surroundings"),
    ],
)
def test_the_encoder_sees_what_the_segmenter_would(image, settings, bright):
    config = {"segmenter": {"input_size": 128, "resize": "squash", **settings}}
    (feed,) = Calibration([image], config).feeds("image_encoder")
    assert feed["image"].shape == (1, 128, 128, 3)
    assert feed["image"].mean() / 255 == pytest.approx(bright, abs=0.003)


def test_the_detector_sees_the_canvas(image):
    (feed,) = Calibration([image], {"detector": {"input_size": 320}}).feeds("detector")
    assert feed["image"].shape == (1, 320, 320, 3)
    assert feed["image"][0, 150:170, 40:56].min() == 255


def test_the_decoder_is_prompted_with_the_regions(image, release):
    size = release.config["segmenter"]["input_size"]
    settings = {"input_size": size, "resize": "squash", "surroundings": 2.0}
    calibration = Calibration([image], {"segmenter": settings}, release.file("onnx/fp32/image_encoder.onnx"))
    (feed,) = calibration.feeds("mask_decoder")
    np.testing.assert_allclose(feed["point_coords"][0], [[size / 4, size / 4], [size * 3 / 4, size * 3 / 4]])
    assert feed["point_labels"].tolist() == [[2, 3]]
    assert set(feed) == {"embedding", "high_res_0", "high_res_1", "point_coords", "point_labels"}
