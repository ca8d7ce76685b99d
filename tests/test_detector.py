"""From the network's boxes to detections in the original image: exact cases, with a network whose output is given."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.detector import Detector
from pipeline.geometry import Resize

CONFIG = {
    "classes": [{"id": 3, "name": "lung"}, {"id": 5, "name": "polyp"}],
    "detector": {
        "input_size": 640,
        "resize": "letterbox",
        "score_threshold": 0.3,
        "class_thresholds": {"lung": 0.4},
        "max_detections": 4,
    },
}
# 320 x 160 doubles to 640 x 320 and lies in rows 160 to 480 of the canvas
PIXELS = np.random.default_rng(0).integers(0, 256, (160, 320, 3), np.uint8)


class Network:
    """A session that gives what it is told to, and keeps what it was asked."""

    def __init__(self, boxes, scores, class_index):
        self.found = [
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(scores, np.float32),
            np.array(class_index, np.int64),
        ]

    def run(self, names, feeds):
        self.feeds = feeds
        return self.found


def test_boxes_come_back_to_the_original_image():
    network = Network([[100, 200, 300, 460], [-10, 150, 700, 500]], [0.9, 0.8], [1, 0])
    found = Detector(network, CONFIG).detect(PIXELS)
    np.testing.assert_array_equal(found.boxes, np.float32([[50, 20, 150, 150], [0, 0, 320, 160]]))
    np.testing.assert_array_equal(found.scores, np.float32([0.9, 0.8]))
    np.testing.assert_array_equal(found.class_ids, [5, 3])
    assert list(network.feeds) == ["image"]
    expected = Resize.plan(320, 160, 640, "letterbox").image(PIXELS)[None]
    np.testing.assert_array_equal(network.feeds["image"], expected)


def test_a_box_far_below_its_class_surest_is_left_out():
    config = {**CONFIG, "detector": CONFIG["detector"] | {"class_best_shares": {"lung": 0.8}}}
    boxes, scores = [[100, 200, 300, 460]] * 4, [0.9, 0.8, 0.7, 0.35]
    found = Detector(Network(boxes, scores, [0, 0, 0, 1]), config).detect(PIXELS)
    np.testing.assert_array_equal(found.scores, np.float32([0.9, 0.8, 0.35]))
    found = Detector(Network(boxes, scores, [0, 0, 0, 1]), config).detect(PIXELS, min_score=0.5)
    np.testing.assert_array_equal(found.scores, np.float32([0.9, 0.8, 0.7]))


class Mirror:
    """A session that finds the bright rectangle of what it is shown."""

    def run(self, names, feeds):
        rows, columns = np.nonzero(feeds["image"][0, ..., 0] > 200)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        return [np.array([box], np.float32), np.array([0.9], np.float32), np.array([0], np.int64)]


@pytest.mark.parametrize(
    "looks",
    [
        pytest.param([{"zoom": 1, "mirror": True}], id="mirrored"),
        pytest.param([{"zoom": 0.8, "mirror": False}], id="smaller"),
        pytest.param([{"zoom": 1.25, "mirror": True}], id="larger and mirrored"),
        pytest.param([{"zoom": z, "mirror": m} for z in (0.8, 1, 1.25) for m in (False, True)], id="all"),
    ],
)
@pytest.mark.parametrize("shape", [(160, 320), (321, 200), (640, 640)], ids=str)
def test_every_look_finds_the_same_place(looks, shape):
    pixels = np.zeros((*shape, 3), np.uint8)
    height, width = shape
    box = np.array([0.3 * width, 0.25 * height, 0.6 * width, 0.7 * height]).round()
    pixels[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])] = 255
    config = CONFIG | {"detector": CONFIG["detector"] | {"looks": looks}}
    found = Detector(Mirror(), config).detect(pixels)
    assert len(found) == 1
    np.testing.assert_allclose(found.boxes[0], box, atol=1.0)
    np.testing.assert_allclose(found.scores, [0.9], atol=1e-6)


def test_proposals_come_whatever_their_scores():
    boxes = [[100 + n, 200, 300 + 5 * n, 460] for n in range(40)]
    found = Detector(Network(boxes, np.linspace(0.9, 0.05, 40), [0, 1] * 20), CONFIG).propose(PIXELS)
    assert len(found) == 32
    np.testing.assert_array_equal(found.class_ids, [3, 5] * 16)
    np.testing.assert_allclose(found.scores, np.linspace(0.9, 0.05, 40)[:32], atol=1e-6)


SCORES, CLASSES = [0.95, 0.41, 0.39, 0.31, 0.29, 0.06], [0, 0, 0, 1, 1, 0]


@pytest.mark.parametrize(
    ("options", "scores"),
    [
        pytest.param({}, [0.95, 0.41, 0.31], id="each class by its own threshold"),
        pytest.param({"min_score": 0.35}, [0.95, 0.41, 0.39], id="one for all"),
        pytest.param({"min_score": 0.0}, [0.95, 0.41, 0.39, 0.31], id="no more than max_detections"),
        pytest.param({"min_score": 1.0}, [], id="out of reach"),
        pytest.param({"class_ids": [5]}, [0.31], id="one class"),
        pytest.param({"class_ids": [5], "min_score": 0.2}, [0.31, 0.29], id="one class, lower"),
        pytest.param({"class_ids": []}, [], id="no class"),
    ],
)
def test_thresholds(options, scores):
    network = Network([[100, 200, 300, 460]] * 6, SCORES, CLASSES)
    found = Detector(network, CONFIG).detect(PIXELS, **options)
    np.testing.assert_array_equal(found.scores, np.float32(scores))


@pytest.mark.parametrize(
    "box",
    [
        pytest.param([100, 20, 300, 150], id="on the border above"),
        pytest.param([100, 480, 300, 640], id="on the border below"),
        pytest.param([640, 200, 700, 300], id="beyond the canvas"),
        pytest.param([300, 200, 300, 300], id="without width"),
        pytest.param([300, 300, 400, 200], id="turned over"),
    ],
)
def test_boxes_without_any_of_the_image_are_dropped(box):
    found = Detector(Network([box], [0.9], [1]), CONFIG).detect(PIXELS)
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


def test_nothing_found():
    found = Detector(Network([], [], []), CONFIG).detect(PIXELS)
    assert (len(found), found.boxes.shape, found.class_ids.dtype) == (0, (0, 4), np.int64)


def test_thresholds_are_optional_by_class():
    settings = {name: value for name, value in CONFIG["detector"].items() if name != "class_thresholds"}
    network = Network([[100, 200, 300, 460]] * 6, SCORES, CLASSES)
    found = Detector(network, CONFIG | {"detector": settings}).detect(PIXELS)
    np.testing.assert_array_equal(found.scores, np.float32([0.95, 0.41, 0.39, 0.31]))
