import numpy as np
import pytest
from PIL import Image

from pipeline import overlay
from pipeline.geometry import Resize
from pipeline.overlay import class_colour, draw_overlay, label_map_image, layers, outline, region_names
from pipeline.results import Detections, Segmentation

GRID = 16
ORANGE, SKY, WHITE = (230, 159, 0), (86, 180, 233), (255, 255, 255)


def segmentation(width, height, regions):
    """Of (class id, score, (left, top, right, bottom) in cells of the 16x16 mask) each."""
    logits = np.full((len(regions), GRID, GRID), -9, np.float32)
    boxes = np.zeros((len(regions), 4), np.float32)
    for index, (_, _, (left, top, right, bottom)) in enumerate(regions):
        logits[index, top:bottom, left:right] = 9
        boxes[index] = np.array([left, top, right, bottom]) / GRID * [width, height, width, height]
    return Segmentation(
        detections=Detections(
            boxes,
            np.array([score for _, score, _ in regions], np.float32),
            np.array([class_id for class_id, _, _ in regions], np.int64),
        ),
        labels=tuple(f"class{class_id}" for class_id, _, _ in regions),
        mask_logits=logits,
        mask_ious=np.ones(len(regions), np.float32),
        resize=Resize.plan(width, height, 64, "squash"),
        precision="int8",
        weights={"version": "0", "sha256": "0"},
    )


def grey(width, height, value=100):
    return np.full((height, width, 3), value, np.uint8)


@pytest.mark.parametrize(
    ("class_id", "colour"),
    [
        pytest.param(1, ORANGE, id="first"),
        pytest.param(2, SKY, id="second"),
        pytest.param(7, (204, 121, 167), id="last of the palette"),
        pytest.param(8, ORANGE, id="goes round"),
        pytest.param(255, WHITE, id="drawn by a person"),
    ],
)
def test_class_colour(class_id, colour):
    assert class_colour(class_id) == colour


def test_the_seven_classes_differ():
    assert len({class_colour(class_id) for class_id in range(1, 8)}) == 7


@pytest.mark.parametrize(
    ("mask", "thickness", "rim"),
    [
        pytest.param(["...", ".#.", "..."], 1, ["...", ".#.", "..."], id="one pixel is all rim"),
        pytest.param(["#####"] * 5, 1, ["#####", "#...#", "#...#", "#...#", "#####"], id="closed at the image's edge"),
        pytest.param(["#######"] * 7, 2, ["#######"] * 2 + ["##...##"] * 3 + ["#######"] * 2, id="two thick"),
        pytest.param(["......"] * 3, 1, ["......"] * 3, id="empty"),
        pytest.param(
            ["#######", "#######", "###.###", "#######", "#######"],
            1,
            ["#######", "#.###.#", "#.#.#.#", "#.###.#", "#######"],
            id="around a hole",
        ),
    ],
)
def test_outline(mask, thickness, rim):
    cells = np.array([[cell == "#" for cell in row] for row in mask])
    assert ["".join(".#"[int(cell)] for cell in row) for row in outline(cells, thickness)] == rim


def test_label_map_is_a_grey_image_whose_values_are_class_ids(tmp_path):
    found = segmentation(64, 48, [(3, 0.9, (2, 2, 8, 8)), (255, 0.5, (6, 6, 14, 14))])
    label_map_image(found).save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), found.label_map())
    assert np.unique(found.label_map()).tolist() == [0, 3, 255]


def test_overlay_blends_inside_draws_the_rim_and_leaves_the_rest():
    found = segmentation(48, 48, [(1, 0.9, (4, 6, 12, 14))])
    inside = found.mask(0)
    rim = outline(inside, 1)
    drawn = np.asarray(draw_overlay(grey(48, 48), found)).copy()
    assert drawn.shape == (48, 48, 3)
    assert (drawn[rim] == ORANGE).all()
    # 0.7 * 100 + 0.3 * (230, 159, 0)
    assert (drawn[inside & ~rim] == (139, 118, 70)).all()
    assert (drawn[~inside] == 100).all()  # the label does not fit on 48 pixels


def test_the_surer_region_is_on_top():
    found = segmentation(160, 160, [(1, 0.9, (4, 4, 10, 10)), (2, 0.4, (2, 2, 12, 12))])
    drawn = np.asarray(draw_overlay(grey(160, 160), found))
    assert (drawn[outline(found.mask(0), 1)] == ORANGE).all()


def test_bands_leave_no_seams(monkeypatch):
    found = segmentation(90, 1300, [(1, 0.9, (1, 1, 15, 15)), (2, 0.8, (3, 5, 9, 12))])
    pixels = np.random.default_rng(0).integers(0, 256, (1300, 90, 3), dtype=np.uint8)
    banded = np.asarray(draw_overlay(pixels, found))
    monkeypatch.setattr(overlay, "_BAND_ROWS", 5000)
    assert np.array_equal(banded, np.asarray(draw_overlay(pixels, found)))


def test_labels_stand_at_their_boxes_and_do_not_hide_each_other():
    found = segmentation(900, 900, [(1, 0.9, (4, 4, 12, 12)), (2, 0.8, (4, 4, 12, 12)), (255, 1.0, (4, 4, 12, 12))])
    plain = Image.new("RGB", (900, 900), (100, 100, 100))
    overlay._draw_labels(plain, found, 2)
    drawn = np.asarray(plain)
    tops = []
    for colour in (WHITE, ORANGE, SKY):  # surest first
        rows, columns = np.nonzero((drawn == colour).all(2))
        assert columns.min() == 225  # the boxes' left
        tops.append((rows.min(), rows.max()))
    assert tops[0][0] < 225
    assert tops[0][1] < tops[1][0] <= tops[1][1] < tops[2][0]


@pytest.mark.parametrize(
    "box", [(0, 0, 5, 5), (11, 11, 16, 16), (13, 0, 16, 3)], ids=["upper left", "lower right", "right"]
)
def test_labels_stay_on_the_image(box):
    plain = Image.new("RGB", (300, 300))
    overlay._draw_labels(plain, segmentation(300, 300, [(1, 0.9, box)]), 1)
    rows, columns = np.nonzero((np.asarray(plain) == ORANGE).all(2))
    assert np.ptp(rows) >= 10 and np.ptp(columns) >= 50


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 40), (36, 50), (640, 480)])
def test_nothing_found_leaves_the_image_as_it_is(width, height):
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(draw_overlay(pixels, segmentation(width, height, []))), pixels)


def test_one_pixel_image_can_be_covered():
    found = segmentation(1, 1, [(2, 0.9, (0, 0, 16, 16))])
    assert np.asarray(draw_overlay(grey(1, 1), found)).tolist() == [[list(SKY)]]


def test_layers_keep_a_small_image_and_give_opacities():
    found = segmentation(64, 48, [(1, 0.9, (4, 4, 12, 12)), (1, 0.5, (0, 0, 2, 2))])
    pixels, regions = layers(grey(64, 48), found, longest=64)
    assert np.array_equal(pixels, grey(64, 48))
    assert [name for _, name in regions] == region_names(found) == ["1 class1", "2 class1"]
    for index, (opacity, _) in enumerate(regions):
        mask = found.mask(index)
        rim = outline(mask, 1)
        assert opacity.dtype == np.float32
        assert np.array_equal(opacity, np.where(rim, np.float32(1), mask * np.float32(0.3)))


@pytest.mark.parametrize(
    ("width", "height", "small"),
    [
        pytest.param(640, 320, (100, 50), id="wide"),
        pytest.param(320, 640, (50, 100), id="tall"),
        pytest.param(3000, 1, (100, 1), id="a line"),
    ],
)
def test_layers_shrink_a_large_image_with_its_regions(width, height, small):
    found = segmentation(width, height, [(1, 0.9, (4, 4, 12, 12))])
    pixels, [(opacity, _)] = layers(grey(width, height), found, longest=100)
    assert pixels.shape == (small[1], small[0], 3)
    assert opacity.shape == (small[1], small[0])
    assert (opacity > 0).mean() == pytest.approx(0.25, abs=0.03) or height == 1
