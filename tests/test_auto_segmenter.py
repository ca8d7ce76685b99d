"""The whole chain on the release's own networks."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import AutoSegmenter, InputError, read_scan
from pipeline.phantoms import write_phantoms
from pipeline.results import Detections
from pipeline.scan import Scan


@pytest.fixture(scope="module")
def segment(release) -> AutoSegmenter:
    return AutoSegmenter.from_release(release.folder, release.precisions[0])


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("phantoms"))[0][0]


@pytest.fixture(scope="module")
def pixels(phantom) -> np.ndarray:
    return read_scan(phantom).pixels


BOX = [40, 90, 240, 420]


class Counted:
    """Passes calls on to a session and counts them."""

    def __init__(self, session):
        self.session, self.runs = session, 0

    def run(self, *arguments):
        self.runs += 1
        return self.session.run(*arguments)


@pytest.fixture
def encoder(segment, monkeypatch) -> Counted:
    """The encoder's session, counted, and no embedding kept from before."""
    counted = Counted(segment.segmenter.encoder)
    monkeypatch.setattr(segment.segmenter, "encoder", counted)
    segment._embeddings.clear()
    return counted


def test_a_drawn_box_is_outlined(segment, pixels, release):
    found = segment(pixels, boxes=[BOX, [280, 90.5, 460, 420]])
    assert found.labels == ("region", "region")
    np.testing.assert_array_equal(found.detections.boxes, np.float32([BOX, [280, 90.5, 460, 420]]))
    np.testing.assert_array_equal(found.detections.scores, [1, 1])
    np.testing.assert_array_equal(found.detections.class_ids, [255, 255])
    assert found.size == pixels.shape[:2]
    grid = release.config["segmenter"]["mask_size"]
    assert found.mask_logits.shape == (2, grid, grid)
    assert found.weights == {"version": release.version, "sha256": release.sha256}
    assert found.precision == release.precisions[0] == segment.precision
    assert np.isfinite(found.mask_logits).all() and ((found.mask_ious >= 0) & (found.mask_ious <= 1)).all()


@pytest.mark.parametrize(
    ("box", "clipped"),
    [
        pytest.param([-50, -9, 600, 700], [0, 0, 512, 512], id="larger than the image"),
        pytest.param([500, 400, 520, 420], [500, 400, 512, 420], id="over an edge"),
        pytest.param([0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5], id="part of a pixel"),
    ],
)
def test_drawn_boxes_are_clipped_to_the_image(segment, pixels, box, clipped):
    assert pixels.shape == (512, 512, 3)
    found = segment(pixels, boxes=[box])
    np.testing.assert_array_equal(found.detections.boxes, np.float32([clipped]))


@pytest.mark.parametrize(
    ("options", "subject", "problem"),
    [
        pytest.param({"boxes": [[10, 10, 10, 20]]}, "box 1", "[10.0, 10.0, 10.0, 20.0]", id="no width"),
        pytest.param({"boxes": [BOX, [20, 20, 10, 10]]}, "box 2", "[20.0, 20.0, 10.0, 10.0]", id="turned over"),
        pytest.param({"boxes": [[600, 0, 700, 9]]}, "box 1", "[600.0, 0.0, 700.0, 9.0]", id="beside the image"),
        pytest.param({"boxes": [[0, 0, np.nan, 9]]}, "box 1", "[0.0, 0.0, nan, 9.0]", id="NaN"),
        pytest.param({"boxes": [[0, 0, np.inf, 9]]}, "box 1", "[0.0, 0.0, inf, 9.0]", id="infinite"),
        pytest.param({"boxes": BOX}, "boxes", "not N rows of four numbers", id="one box without its list"),
        pytest.param({"boxes": [[1, 2, 3]]}, "boxes", "not N rows of four numbers", id="three numbers"),
        pytest.param({"boxes": [["a", 0, 1, 2]]}, "boxes", "not N rows of four numbers", id="text"),
        pytest.param({"boxes": 7}, "boxes", "not N rows of four numbers", id="a number"),
        pytest.param({"classes": ["kidney"]}, "classes", "'kidney' is not a class of these weights", id="class"),
        pytest.param({"labels": ["polyp"]}, "labels", "no boxes that they belong to", id="labels alone"),
        pytest.param(
            {"boxes": [BOX], "labels": ["kidney"]}, "labels", "'kidney' is not a class of these weights", id="label"
        ),
        pytest.param({"boxes": [BOX], "labels": ["polyp"] * 2}, "labels", "2 for 1 boxes", id="labels too many"),
        pytest.param({"min_score": 1.5}, "min_score", "1.5", id="score too high"),
        pytest.param({"min_score": -0.1}, "min_score", "-0.1", id="score too low"),
        pytest.param({"min_score": float("nan")}, "min_score", "nan", id="score NaN"),
        pytest.param({"min_score": "0.5"}, "min_score", "'0.5'", id="score text"),
    ],
)
def test_options_that_are_refused(segment, pixels, options, subject, problem):
    with pytest.raises(InputError) as caught:
        segment(pixels, **options)
    assert (caught.value.subject, caught.value.problem) == (subject, problem)


def test_an_unknown_class_is_answered_with_the_known_ones(segment, pixels):
    with pytest.raises(InputError) as caught:
        segment(pixels, classes=["polyp", "kidney"])
    assert caught.value.expected == ", ".join(segment.class_names.values())


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        pytest.param(np.zeros((4, 5), np.uint8), "uint8 (4, 5)", id="grey"),
        pytest.param(np.zeros((4, 5, 4), np.uint8), "uint8 (4, 5, 4)", id="four channels"),
        pytest.param(np.zeros((4, 5, 3)), "float64 (4, 5, 3)", id="floats"),
        pytest.param(np.zeros((0, 5, 3), np.uint8), "uint8 (0, 5, 3)", id="empty"),
        pytest.param(Image.new("I;16", (5, 4)), "a PIL image of mode I;16", id="16-bit PIL image"),
        pytest.param([[1, 2]], "a list", id="list"),
        pytest.param(None, "a NoneType", id="none"),
    ],
)
def test_images_that_are_refused(segment, image, problem):
    with pytest.raises(InputError) as caught:
        segment(image)
    assert (caught.value.subject, caught.value.problem) == ("image", problem)


def test_every_way_to_give_an_image_gives_the_same(segment, phantom, pixels):
    ways = [pixels, Scan(phantom, pixels), Image.fromarray(pixels), phantom, str(phantom)]
    results = [segment(way, boxes=[BOX]) for way in ways]
    for result in results[1:]:
        np.testing.assert_array_equal(result.mask_logits, results[0].mask_logits)


def test_spacing_is_handed_on(segment, pixels):
    assert segment(Scan(Path("x"), pixels, (0.5, 0.25)), boxes=[BOX]).spacing_mm == (0.5, 0.25)
    assert segment(pixels, boxes=[BOX]).spacing_mm is None


def test_timings_are_parts_of_one_clock(segment, phantom):
    *stages, total = astuple(segment(phantom, boxes=[BOX]).timings)
    assert min(stages) >= 0
    assert sum(stages) == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "looks"),
    [
        pytest.param({"min_score": 1.0}, True, id="no score is high enough"),
        pytest.param({"classes": []}, True, id="no class is asked for"),
        pytest.param({"boxes": []}, False, id="no box is drawn"),
        pytest.param({"boxes": np.zeros((0, 4), np.float32)}, False, id="no box is drawn, as an array"),
    ],
)
def test_nothing_found_is_a_result(segment, pixels, encoder, release, options, looks):
    """It costs an embedding only where the image is compared with what the weights know."""
    compared = looks and "scope" in release.config
    found = segment(pixels, **options)
    grid = release.config["segmenter"]["mask_size"]
    assert (len(found), found.labels, found.mask_logits.shape) == (0, (), (0, grid, grid))
    assert (found.label_map() == 0).all() and found.size == (512, 512)
    assert encoder.runs == compared
    assert (found.out_of_scope is not None) == compared


def test_an_image_is_embedded_once_for_all_its_corrections(segment, pixels, encoder):
    first = segment(pixels, boxes=[BOX] * 12)
    again = segment(pixels.copy(), boxes=[BOX])
    assert encoder.runs == 1
    np.testing.assert_allclose(again.mask_logits[0], first.mask_logits[0], atol=1e-3)
    segment(255 - pixels, boxes=[BOX])
    assert encoder.runs == 2


def test_only_the_last_images_are_kept(segment, pixels, encoder):
    images = [np.roll(pixels, shift, 0) for shift in range(9)]
    for image in images:
        segment(image, boxes=[BOX])
    segment(images[-1], boxes=[BOX])
    assert encoder.runs == 9
    segment(images[0], boxes=[BOX])
    assert encoder.runs == 10


def test_what_is_kept_can_be_forgotten(segment, pixels, encoder):
    segment(pixels, boxes=[BOX])
    segment.forget_embeddings()
    segment(pixels, boxes=[BOX])
    assert encoder.runs == 2


def test_same_pixels_of_another_shape_are_another_image(segment, encoder):
    flat = np.full((100, 200, 3), 90, np.uint8)
    assert segment(flat, boxes=[[0, 0, 50, 50]]).size == (100, 200)
    assert segment(flat.reshape(200, 100, 3), boxes=[[0, 0, 50, 50]]).size == (200, 100)
    assert encoder.runs == 2


def test_detections_prompt_the_segmenter(segment, pixels, monkeypatch):
    """What the detector finds is decoded box by box and named by its class."""
    ids = list(segment.class_names)
    boxes = np.float32([BOX, [280, 90, 460, 420]])
    found = Detections(boxes, np.float32([0.9, 0.4]), np.array([ids[2], ids[0]], np.int64))
    monkeypatch.setattr(segment.detector, "detect", lambda *_, **__: found)
    monkeypatch.setattr(segment, "scope", None)  # it would say that both can't be in one image
    result = segment(pixels)
    assert result.labels == (segment.class_names[ids[2]], segment.class_names[ids[0]])
    assert result.detections is found
    named = segment(pixels, boxes=boxes, labels=result.labels)
    assert named.labels == result.labels
    drawn = segment(pixels, boxes=boxes)
    assert drawn.labels == ("region", "region")
    cells = drawn.resize.boxes(boxes) * (drawn.mask_logits.shape[-1] / drawn.resize.size)
    shaped = segment.shapes.of(drawn.mask_logits, result.labels, cells)
    np.testing.assert_array_equal(named.mask_logits, shaped)
    np.testing.assert_array_equal(result.mask_logits, shaped)


@pytest.mark.parametrize(
    ("height", "width"),
    [pytest.param(1, 1, id="1x1"), pytest.param(1, 3000, id="a row"), pytest.param(2000, 3, id="a narrow column")],
)
def test_odd_sizes_run_through(segment, height, width):
    image = np.full((height, width, 3), 127, np.uint8)
    assert segment(image).size == (height, width)
    found = segment(image, boxes=[[0, 0, width, height]])
    assert found.mask(0).shape == (height, width)


def test_class_names_are_those_of_the_config(segment, release):
    assert segment.class_names == {entry["id"]: entry["name"] for entry in release.config["classes"]}
