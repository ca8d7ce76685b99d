"""Results check themselves, and their exports hold the right values."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from pipeline.geometry import Resize
from pipeline.results import Detections, Segmentation, Timings

BOX = [0, 0, 4, 4]


def detections(boxes=(BOX,), scores=(0.5,), class_ids=(1,)) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(class_ids, np.int64)
    )


def segmentation(masks, scores, class_ids, *, repeat: int = 1, **settings) -> Segmentation:
    """Masks bool (N, G, G), each cell of which becomes `repeat` x `repeat` pixels."""
    masks = np.asarray(masks, bool)
    grid = masks.shape[-1]
    return Segmentation(
        detections([BOX] * len(masks), scores, class_ids),
        tuple(f"class{i}" for i in class_ids),
        np.where(masks, 8, -8).astype(np.float32),
        np.full(len(masks), 0.75, np.float32),
        Resize.plan(grid * repeat, grid * repeat, grid, "squash"),
        "int8",
        {"version": "0.1.0", "sha256": "ab"},
        **settings,
    )


def decode_rle(rle: dict) -> np.ndarray:
    """COCO's compressed RLE -> bool (H, W), written from its description in cocodataset/cocoapi `maskApi.c`."""
    runs, position = [], 0
    text = [ord(character) - 48 for character in rle["counts"]]
    while position < len(text):
        run, shift = 0, 0
        while True:
            part, position = text[position], position + 1
            run |= (part & 31) << shift
            shift += 5
            if not part & 32:
                break
        if part & 16:
            run |= -1 << shift
        runs.append(run + (runs[-2] if len(runs) > 2 else 0))
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(rle["size"][::-1]).T


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"boxes": np.zeros((1, 4))}, "float64", id="dtype"),
        pytest.param({"scores": np.zeros(2, np.float32)}, r"\(2,\); expected float32 \(1,\)", id="count"),
        pytest.param({"boxes": np.array([[0, 0, np.nan, 1]], np.float32)}, "finite", id="nan"),
        pytest.param({"boxes": np.array([[4, 0, 1, 1]], np.float32)}, "x0 <= x1", id="turned-round"),
        pytest.param({"scores": np.array([1.5], np.float32)}, r"0\.\.1", id="score"),
        pytest.param({"scores": np.array([np.nan], np.float32)}, r"0\.\.1", id="nan-score"),
        pytest.param({"class_ids": np.array([0])}, r"row 0 .* 1\.\.255", id="background"),
        pytest.param({"class_ids": np.array([256])}, r"1\.\.255", id="beyond-uint8"),
    ],
)
def test_detections_check_themselves(change, message):
    with pytest.raises(ValueError, match=message):
        replace(detections(), **change)


def test_detections_select_and_count():
    three = detections([BOX] * 3, (0.9, 0.5, 0.1), (1, 2, 3))
    assert three[np.array([True, False, True])].class_ids.tolist() == [1, 3]
    assert len(three[:1]) == 1
    assert len(Detections.none()) == 0


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"labels": ("a", "b")}, id="labels"),
        pytest.param({"mask_logits": np.zeros((1, 4, 5), np.float32)}, id="not-square"),
        pytest.param({"mask_logits": np.zeros((2, 4, 4), np.float32)}, id="masks"),
        pytest.param({"mask_ious": np.zeros(1)}, id="dtype"),
    ],
)
def test_segmentation_checks_itself(change):
    with pytest.raises(ValueError, match=r"Segmentation\."):
        replace(segmentation(np.zeros((1, 4, 4)), (0.5,), (1,)), **change)


def test_mask_is_the_same_in_bands_and_whole():
    logits = np.random.default_rng(0).normal(size=(1, 64, 64)).astype(np.float32)
    image = replace(segmentation(np.zeros((1, 64, 64)), (0.5,), (1,), repeat=21), mask_logits=logits)
    assert image.size == (1344, 1344)  # three bands
    assert np.array_equal(image.mask(0), image.resize.mask_back(logits[0]))
    assert np.array_equal(image.mask(0, slice(500, 530)), image.mask(0)[500:530])


@pytest.mark.parametrize(
    ("scores", "overlap"), [((0.9, 0.4), 7), ((0.4, 0.9), 3)], ids=["first-is-surer", "second-is-surer"]
)
def test_label_map_has_the_surer_region_on_top(scores, overlap):
    masks = np.zeros((2, 4, 4), bool)
    masks[0, :, :3] = masks[1, :, 1:] = True
    image = segmentation(masks, scores, (7, 3))
    assert image.label_map().dtype == np.uint8
    assert image.label_map().tolist() == [[7, overlap, overlap, 3]] * 4


def test_label_map_of_nothing_and_of_a_persons_box():
    nothing = segmentation(np.zeros((0, 4, 4)), (), ())
    assert not nothing.label_map().any() and nothing.to_json("a.png")["detections"] == []
    assert segmentation(np.ones((1, 4, 4)), (1.0,), (255,)).label_map().tolist() == [[255] * 4] * 4


def test_json_by_value():
    mask = np.zeros((1, 8, 8), bool)
    mask[0, 2:6, 1:7] = True
    image = segmentation(mask, (0.91239,), (5,), spacing_mm=(0.5, 0.25), timings=Timings(detect=1.234, total=2))
    assert image.to_json("a.png")["out_of_scope"] is None
    image = replace(image, out_of_scope=True)
    # through text, as the command line writes it
    report = json.loads(json.dumps(image.to_json("in/a.png"), allow_nan=False))
    found = report["detections"][0]
    rle = found.pop("rle")
    assert found == {
        "label": "class5",
        "class_id": 5,
        "score": 0.9124,
        "box": [0, 0, 4, 4],
        "mask_iou": 0.75,
        "area_px": 24,
        "area_mm2": 3.0,
    }
    assert rle["size"] == [8, 8]
    assert np.array_equal(decode_rle(rle), mask[0])
    assert (report["file"], report["width"], report["height"]) == ("in/a.png", 8, 8)
    assert report["weights"] == {"version": "0.1.0", "sha256": "ab"}
    assert report["out_of_scope"] is True
    assert report["timings_ms"] == {"read": 0, "detect": 1.23, "embed": 0, "decode": 0, "post": 0, "total": 2}


def test_rle_round_trip_of_a_mask_that_is_not_square():
    logits = np.random.default_rng(1).normal(size=(1, 32, 32)).astype(np.float32)
    image = segmentation(np.zeros((1, 32, 32)), (0.5,), (1,))
    image = replace(image, mask_logits=logits, resize=Resize.plan(70, 45, 32, "letterbox"))
    found = image.to_json("a.png")["detections"][0]
    assert found["rle"]["size"] == [45, 70]
    assert np.array_equal(decode_rle(found["rle"]), image.mask(0))
    assert found["area_px"] == image.mask(0).sum() and found["area_mm2"] is None


def test_1x1():
    image = replace(segmentation(np.ones((1, 4, 4)), (0.5,), (2,)), resize=Resize.plan(1, 1, 4, "letterbox"))
    assert image.label_map().tolist() == [[2]]
    assert image.to_json("a.png")["detections"][0]["area_px"] == 1


def test_at_size_keeps_the_regions():
    masks = np.zeros((1, 4, 4), bool)
    masks[0, :2] = True
    small = segmentation(masks, (0.5,), (2,), repeat=10, spacing_mm=(1.0, 1.0)).at_size(8, 20)
    assert small.size == (20, 8) and small.spacing_mm is None
    assert small.detections.boxes.tolist() == pytest.approx(np.array([[0, 0, 0.8, 2.0]]))
    assert small.mask(0)[:10].all() and not small.mask(0)[10:].any()
