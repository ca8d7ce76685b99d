"""Prompts on their way to the decoder, and what the trained networks make of them."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import Resize
from pipeline.segmenter import Embedding, Segmenter, box_to_points

CONFIG = {"segmenter": {"input_size": 512, "resize": "squash", "mask_size": 128}}


class Decoder:
    """A session that gives each prompt a mask filled with its first x, and keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def run(self, names, feeds):
        self.asked.append(feeds)
        first = feeds["point_coords"][:, 0, 0]
        return [np.broadcast_to(first[:, None, None], (len(first), 128, 128)), first / 1000, -first]


@pytest.mark.parametrize(
    ("settings", "boxes", "window"),
    [
        pytest.param({}, [[10, 10, 20, 30]], (0, 0, 100, 80), id="whole-image"),
        pytest.param({"surroundings": 2}, [[10, 10, 20, 30]], (0, 0, 40, 40), id="surroundings-of-a-box"),
        pytest.param({"surroundings": 2}, [[10, 10, 20, 30], [60, 40, 70, 50]], (0, 0, 100, 80), id="of-two"),
        pytest.param({"surroundings": 2}, np.zeros((0, 4)), (0, 0, 100, 80), id="of-none"),
        pytest.param({"surroundings": 2}, None, (0, 0, 100, 80), id="not-asked-for"),
    ],
)
def test_what_is_looked_at(settings, boxes, window):
    segmenter = Segmenter(None, None, {"segmenter": CONFIG["segmenter"] | settings})
    boxes = None if boxes is None else np.asarray(boxes, np.float32)
    assert segmenter.plan(np.zeros((80, 100, 3), np.uint8), boxes).window == window


def decode(**prompts):
    decoder = Decoder()
    embedding = Embedding((np.zeros(1), np.ones(1), np.full(1, 2.0)), Resize.plan(1024, 256, 512, "squash"))
    return decoder, Segmenter(None, decoder, CONFIG).decode(embedding, **prompts)


@pytest.mark.parametrize(
    ("prompts", "coords", "labels"),
    [
        pytest.param({"boxes": [[20, 10, 600, 200]]}, [[[10, 20], [300, 400]]], [[2, 3]], id="box"),
        pytest.param(
            {"points": [[[20, 10], [600, 200]]], "point_labels": [[1, 0]]},
            [[[10, 20], [300, 400]]],
            [[1, 0]],
            id="clicks",
        ),
        pytest.param(
            {"boxes": [[20, 10, 600, 200]], "points": [[[40, 40]]], "point_labels": [[1]]},
            [[[10, 20], [300, 400], [20, 80]]],
            [[2, 3, 1]],
            id="box with a click",
        ),
        pytest.param(
            {"boxes": np.zeros((2, 4), np.float32), "points": np.zeros((2, 1, 2)), "point_labels": [[1], [-1]]},
            np.zeros((2, 3, 2)),
            [[2, 3, 1], [2, 3, -1]],
            id="a click for one of two boxes",
        ),
    ],
)
def test_prompts_reach_the_decoder_in_input_pixels(prompts, coords, labels):
    decoder, _ = decode(**prompts)
    (feeds,) = decoder.asked
    np.testing.assert_array_equal(feeds["point_coords"], np.float32(coords))
    np.testing.assert_array_equal(feeds["point_labels"], labels)
    assert (feeds["point_coords"].dtype, feeds["point_labels"].dtype) == (np.float32, np.int64)
    assert [feeds[name][0] for name in ("embedding", "high_res_0", "high_res_1")] == [0, 1, 2]


@pytest.mark.parametrize("count", [0, 1, 8, 9, 20])
def test_many_boxes_are_decoded_a_few_at_a_time_and_in_order(count):
    boxes = np.tile(np.float32([0, 0, 1024, 256]), (count, 1))
    boxes[:, 0] = 2 * np.arange(count)
    decoder, (mask_logits, ious, object_scores) = decode(boxes=boxes)
    assert [len(feeds["point_coords"]) for feeds in decoder.asked] == [8] * (count // 8) + [count % 8] * (count % 8 > 0)
    assert (mask_logits.shape, mask_logits.dtype) == ((count, 128, 128), np.float32)
    np.testing.assert_array_equal(mask_logits[:, 0, 0], np.arange(count))
    np.testing.assert_allclose(ious, np.arange(count) / 1000, rtol=1e-6)
    np.testing.assert_array_equal(object_scores, -np.arange(count))


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        pytest.param({}, "nothing to decode", id="none"),
        pytest.param(
            {"points": np.zeros((2, 3)), "point_labels": np.zeros((2, 3))}, r"points \(2, 3\)", id="no coordinates"
        ),
        pytest.param(
            {"points": np.zeros((2, 3, 2)), "point_labels": np.zeros((2, 4))}, r"point_labels \(2, 4\)", id="labels"
        ),
    ],
)
def test_prompts_that_are_refused(prompts, message):
    with pytest.raises(ValueError, match=message):
        decode(**prompts)


def test_box_to_points():
    coords, labels = box_to_points(np.float32([[1, 2, 3, 4], [5, 6, 7, 8]]))
    np.testing.assert_array_equal(coords, np.float32([[[1, 2], [3, 4]], [[5, 6], [7, 8]]]))
    np.testing.assert_array_equal(labels, [[2, 3], [2, 3]])


@pytest.fixture(scope="module")
def segmenter(release) -> Segmenter:
    return Segmenter.from_release(release, release.precisions[0])


@pytest.fixture(scope="module")
def embedding(segmenter) -> Embedding:
    return segmenter.embed(np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8))


def test_embedding_has_the_documented_shapes(segmenter, embedding):
    size = segmenter.size
    shapes = [(1, channels, size // step, size // step) for channels, step in ((256, 16), (32, 4), (64, 8))]
    assert [(part.shape, part.dtype) for part in embedding.features] == [(shape, np.float32) for shape in shapes]
    assert embedding.resize == Resize.plan(400, 300, size, "squash")


def test_the_networks_decode_a_box_alike_alone_and_among_others(segmenter, embedding):
    boxes = np.float32([[10, 20, 200, 250], [50, 60, 80, 90], [0, 0, 400, 300]])
    together = segmenter.decode(embedding, boxes=boxes)
    for number, box in enumerate(boxes):
        for alone, among in zip(segmenter.decode(embedding, boxes=box[None]), together, strict=True):
            np.testing.assert_allclose(alone[0], among[number], atol=1e-3 * np.abs(together[0]).max())


def test_a_click_changes_the_mask_and_a_blank_one_hardly_does(segmenter, embedding):
    box = np.float32([[10, 20, 200, 250]])
    plain, *_ = segmenter.decode(embedding, boxes=box)
    clicked, *_ = segmenter.decode(embedding, boxes=box, points=[[[100, 100]]], point_labels=[[0]])
    assert np.abs(clicked - plain).max() > 0.01 * np.abs(plain).max()
