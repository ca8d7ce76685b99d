"""COCO JSON of a user's own: where images are found, what is read of them, what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the readers belong to the build environment")

from PIL import Image
from pycocotools import mask as coco_mask

from pipeline.datasets import read_source
from pipeline.datasets.coco import read_box, read_mask
from pipeline.errors import InputError
from tests.datasets.layouts import BOX, COCO_IMAGE, HEIGHT, WIDTH, coco, picture, rectangles, save_image, save_table

pytestmark = pytest.mark.training

XYWH = [4, 6, 10, 6]
MASK = rectangles(BOX)
RING = rectangles(BOX) & ~rectangles((6, 8, 10, 10))


def compressed(mask: np.ndarray) -> dict:
    """As pycocotools writes it."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": rle["counts"].decode("ascii")}


def uncompressed(mask: np.ndarray) -> dict:
    """Lengths of the runs down the columns, the first of background."""
    flat = np.concatenate([[False], mask.ravel(order="F"), [~mask[-1, -1]]])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    return {"size": list(mask.shape), "counts": np.diff(np.concatenate([[0], ends])).tolist()}


def square(left, top, right, bottom) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


NOISE = np.random.default_rng(5).random((HEIGHT, WIDTH)) < 0.5


@pytest.mark.parametrize(
    ("annotation", "mask", "box"),
    [
        pytest.param({"segmentation": [square(*BOX)], "bbox": XYWH}, MASK, BOX, id="polygon"),
        pytest.param(
            {"segmentation": [square(1, 1, 4, 5), square(10, 2, 15, 8)]},
            rectangles((1, 1, 4, 5), (10, 2, 15, 8)),
            (1, 1, 15, 8),
            id="two-polygons-are-one-region",
        ),
        pytest.param({"segmentation": compressed(MASK), "bbox": XYWH}, MASK, BOX, id="compressed"),
        pytest.param({"segmentation": compressed(RING)}, RING, BOX, id="compressed-with-a-hole"),
        pytest.param({"segmentation": compressed(NOISE)}, NOISE, (0, 0, 24, 20), id="compressed-noise"),
        pytest.param({"segmentation": uncompressed(RING), "iscrowd": 1}, RING, BOX, id="uncompressed-crowd"),
        pytest.param(
            {"segmentation": uncompressed(rectangles((0, 0, 24, 20)))},
            rectangles((0, 0, 24, 20)),
            (0, 0, 24, 20),
            id="whole-image",
        ),
        pytest.param({"bbox": [4.5, 6, 9.25, 6]}, None, (4.5, 6, 13.75, 12), id="bbox-only"),
        pytest.param({"bbox": XYWH, "segmentation": []}, None, BOX, id="bbox-and-empty-segmentation"),
        pytest.param({"bbox": [20, 15, 4.5, 5.9]}, None, (20, 15, 24, 20), id="bbox-overhanging-by-rounding"),
        pytest.param({"bbox": [0, 0, 2, 2], "segmentation": compressed(MASK)}, MASK, BOX, id="mask-decides-the-box"),
    ],
)
def test_region(tmp_path, annotation, mask, box):
    save_image(tmp_path / "a.png", picture())
    coco(tmp_path / "own.json", [annotation])
    [sample] = read_source(tmp_path / "own.json").samples
    pixels, [region] = sample.load()
    np.testing.assert_array_equal(pixels, picture())
    assert (region.label, region.box.dtype, tuple(region.box.tolist())) == ("cyst", np.float32, box)
    if mask is None:
        assert region.mask is None
    else:
        assert region.mask.dtype == bool
        np.testing.assert_array_equal(region.mask, mask)


def test_compressed_runs_longer_than_one_character(tmp_path):
    mask = np.zeros((700, 900), bool)
    mask[3:690, 40:800] = True
    mask[5, 850] = True
    save_image(tmp_path / "a.png", picture(0, 900, 700))
    coco(tmp_path / "own.json", [{"segmentation": compressed(mask)}], [{"id": 3, "file_name": "a.png"}])
    [region] = read_source(tmp_path / "own.json").samples[0].load()[1]
    np.testing.assert_array_equal(region.mask, mask)


@pytest.mark.parametrize(
    ("json_name", "image_name", "opened"),
    [
        pytest.param("own.json", "a.png", "own.json", id="beside-the-file"),
        pytest.param("own.json", "images/a.png", "own.json", id="in-images"),
        pytest.param("own.json", "a.png", ".", id="folder"),
        pytest.param("annotations/own.json", "images/a.png", ".", id="folder-with-annotations"),
        pytest.param("annotations/own.json", "a.png", "annotations/own.json", id="file-in-annotations"),
    ],
)
def test_where_images_are_found(tmp_path, json_name, image_name, opened):
    save_image(tmp_path / image_name, picture())
    coco(tmp_path / json_name, [{"bbox": XYWH}])
    source = read_source(tmp_path / opened)
    assert (len(source.samples), source.missing) == (1, ())
    np.testing.assert_array_equal(source.samples[0].load()[0], picture())


def test_classes_are_the_users_in_the_order_of_their_ids(tmp_path):
    save_image(tmp_path / "a.png", picture())
    coco(tmp_path / "own.json", [{"bbox": XYWH, "category_id": 2}, {"bbox": XYWH}])
    source = read_source(tmp_path)
    assert source.classes == ("node", "cyst")
    assert [region.label for region in source.samples[0].load()[1]] == ["node", "cyst"]


def test_names_and_fields(tmp_path):
    fields = [
        {"file_name": "b/1.png", "series": "b", "slice_index": 1, "patient": "p1", "modality": "CT", "split": "val"},
        {"file_name": "c.jpg"},
        {"file_name": "b/0.png", "series": "b", "slice_index": 0, "patient": "p1", "modality": "CT", "split": "val"},
        {"file_name": "c.png", "patient": 7},
        {"file_name": "absent.png"},
    ]
    images = [{"id": number, **entry} for number, entry in enumerate(fields)]
    for entry in images[:-1]:
        save_image(tmp_path / "set" / entry["file_name"], picture())
    source = read_source(coco(tmp_path / "set" / "own.json", images=images))
    assert (source.name, source.modality, source.missing) == ("set_own", "CT", ("absent.png",))
    assert [(s.name, s.patient, s.split, s.series, s.slice_index) for s in source.samples] == [
        ("c", "c", None, None, None),
        ("c_own_3", "7", None, None, None),
        ("b__0", "p1", "val", "b", 0),
        ("b__1", "p1", "val", "b", 1),
    ]
    assert source.samples[0].load()[1] == []  # an image without annotations is an empty one


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.json", "train"),
        ("val.json", "val"),
        ("test.json", "test"),
        ("instances_val2017.json", "val"),
        ("my-Train-set.json", "train"),
        ("latest.json", None),
        ("own.json", None),
        ("retrain.json", None),
    ],
)
def test_split_of_the_file_name(tmp_path, name, split):
    save_image(tmp_path / "a.png", picture())
    coco(tmp_path / name)
    assert read_source(tmp_path / name).samples[0].split == split


def test_splits_csv_wins(tmp_path):
    save_image(tmp_path / "a.png", picture())
    coco(tmp_path / "train.json", images=[{**COCO_IMAGE, "patient": "p1", "split": "val"}])
    save_table(tmp_path / "splits.csv", ["patient", "split"], ["p1", "test"])
    assert read_source(tmp_path).samples[0].split == "test"


def test_folder_with_a_file_a_split(tmp_path):
    for name, image in (("train", "a.png"), ("val", "b.png"), ("test", "c.png")):
        save_image(tmp_path / "images" / image, picture())
        coco(tmp_path / f"{name}.json", images=[{"id": 1, "file_name": f"images/{image}"}])
    source = read_source(tmp_path)
    assert source.name == tmp_path.name
    assert [(s.name, s.split) for s in source.samples] == [
        ("images__c", "test"),
        ("images__a", "train"),
        ("images__b", "val"),
    ]


FIRST = r"own.json: annotation 1 of a.png: "
IN_IMAGE = r"within the 24x20 image"

#: {name: (what `coco` writes, message)}
CONTENT_ERRORS = {
    "unknown-category": (
        {"annotations": [{"id": 9, "image_id": 3, "category_id": 4}]},
        "own.json: annotation 9 has unknown category 4; expected one of 2, 5",
    ),
    "unknown-image": (
        {"annotations": [{"id": 9, "image_id": 12, "category_id": 5}]},
        "own.json: annotation 9 is of unknown image 12; expected the id of one of its images",
    ),
    "annotation-without-image": (
        {"annotations": [{"id": 9, "category_id": 5}]},
        r'own.json: annotations\[0\] is {"id": 9, "category_id": 5}; expected image_id of type int in each',
    ),
    "image-without-name": ({"images": [{"id": 3}]}, r"own.json: images\[0\] is .*; expected file_name of type str"),
    "no-categories": ({"categories": None}, "own.json: lacks the list categories"),
    "same-category-id": (
        {"categories": [{"id": 5, "name": "a"}, {"id": 5, "name": "b"}]},
        "own.json: categories with the same id 5; expected each id once",
    ),
    "same-category-name": (
        {"categories": [{"id": 5, "name": "a"}, {"id": 2, "name": "a"}]},
        "own.json: categories with the same name 'a'",
    ),
    "same-image-id": (
        {"images": [COCO_IMAGE, {**COCO_IMAGE, "file_name": "b.png"}]},
        "own.json: images with the same id 3",
    ),
    "same-image-name": (
        {"images": [COCO_IMAGE, {**COCO_IMAGE, "id": 4}]},
        "own.json: images with the same file_name 'a.png'",
    ),
    "unknown-split": (
        {"images": [{**COCO_IMAGE, "split": "dev"}]},
        "own.json: a.png has unknown split 'dev'; expected train, val or test",
    ),
    "slice-index-in-words": (
        {"images": [{**COCO_IMAGE, "slice_index": "one"}]},
        "own.json: a.png has slice_index 'one'; expected a whole number",
    ),
    "image-of-another-size": (
        {"images": [{**COCO_IMAGE, "width": 20, "height": 24}]},
        "a.png: image of 24x20 pixels; expected 20x24, as own.json says",
    ),
}
REGION_ERRORS = {
    "mask-of-another-size": (
        {"segmentation": compressed(MASK.T)},
        FIRST + r"mask of size \[24, 20\]; expected \[20, 24\], height and width of its image",
    ),
    "runs-too-few": (
        {"segmentation": {"size": [20, 24], "counts": [100, 20]}},
        FIRST + "broken run lengths; expected counts that add up to 480 pixels",
    ),
    "runs-negative": ({"segmentation": {"size": [20, 24], "counts": [490, -10]}}, FIRST + "broken run lengths"),
    "runs-not-numbers": ({"segmentation": {"size": [20, 24], "counts": ["a"]}}, FIRST + "broken run lengths"),
    "no-runs": ({"segmentation": {"size": [20, 24]}}, FIRST + "broken run lengths"),
    "compressed-cut-short": (
        {"segmentation": {"size": [20, 24], "counts": compressed(RING)["counts"][:-2]}},
        FIRST + "broken run lengths",
    ),
    "compressed-not-ascii": ({"segmentation": {"size": [20, 24], "counts": "é0"}}, FIRST + "broken run lengths"),
    "mask-empty": (
        {"segmentation": compressed(rectangles())},
        FIRST + f"its mask is empty; expected a region {IN_IMAGE}",
    ),
    "polygon-odd": ({"segmentation": [[1, 2, 3, 4, 5]]}, FIRST + r"polygon \[1, 2, 3, 4, 5\]; expected \[x1, y1"),
    "polygon-text": ({"segmentation": [[1, 2, 3, 4, 5, "6"]]}, FIRST + "polygon"),
    "polygon-flat-list": ({"segmentation": [1, 2, 3, 4, 5, 6]}, FIRST + "polygon 1; expected"),
    "polygon-outside": (
        {"segmentation": [square(4, 6, 40, 12)]},
        FIRST + "a polygon outside its image; expected points within 24x20",
    ),
    "box-outside": ({"bbox": [20, 6, 10, 6]}, FIRST + r"bbox \[20, 6, 10, 6\]; expected .* " + IN_IMAGE),
    "box-outside-though-there-is-a-mask": (
        {"bbox": [-3, 6, 10, 6], "segmentation": compressed(MASK)},
        FIRST + r"bbox \[-3, 6, 10, 6\]",
    ),
    "box-beside-the-image": ({"bbox": [24, 6, 0.5, 6]}, FIRST + "bbox"),
    "box-without-width": ({"bbox": [4, 6, 0, 6]}, FIRST + "bbox"),
    "box-nan": ({"bbox": [float("nan"), 6, 4, 6]}, FIRST + "bbox"),
    "box-of-three": ({"bbox": [4, 6, 4]}, FIRST + "bbox"),
    "box-text": ({"bbox": "4 6 4 4"}, FIRST + "bbox"),
    "no-region": ({}, FIRST + "neither bbox nor segmentation"),
}


@pytest.mark.parametrize(("content", "message"), CONTENT_ERRORS.values(), ids=CONTENT_ERRORS)
def test_refused_file(tmp_path, content, message):
    save_image(tmp_path / "a.png", picture())
    coco(tmp_path / "own.json", **content)
    with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path))}/{message}"):
        read_source(tmp_path / "own.json").samples[0].load()


@pytest.mark.parametrize(("region", "message"), REGION_ERRORS.values(), ids=REGION_ERRORS)
def test_refused_region(tmp_path, region, message):
    save_image(tmp_path / "a.png", picture())
    coco(tmp_path / "own.json", [region])
    [sample] = read_source(tmp_path / "own.json").samples
    with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path))}/{message}"):
        sample.load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "own.json: unreadable", id="empty"),
        pytest.param('{"images": [', "own.json: unreadable", id="truncated"),
        pytest.param("[]", "own.json: lacks the list categories; expected COCO JSON", id="a-list"),
        pytest.param("{}", "own.json: lacks the list categories", id="without-lists"),
    ],
)
def test_no_coco_file(tmp_path, text, message):
    (tmp_path / "own.json").write_text(text)
    with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path))}/{message}"):
        read_source(tmp_path / "own.json")


def test_several_files_need_names_that_say_the_split(tmp_path):
    coco(tmp_path / "first.json")
    coco(tmp_path / "train.json")
    with pytest.raises(InputError, match=r"several annotation files \(first.json, train.json\); expected one, or"):
        read_source(tmp_path)


def test_splits_with_other_categories(tmp_path):
    coco(tmp_path / "train.json")
    coco(tmp_path / "val.json", categories=[{"id": 1, "name": "cyst"}])
    with pytest.raises(InputError, match=r"val.json: other categories; expected those of train.json"):
        read_source(tmp_path)


def video_set(folder: Path, *, in_file: bool) -> Path:
    """Four frames of a video, each of another grey, and one other image; as one file or as CocoVID has them."""
    frames = [np.full((HEIGHT, WIDTH, 3), 40 * number + 20, np.uint8) for number in range(4)]
    names = [f"beat/{number:03d}.png" for number in range(4)]
    if in_file:
        first, *others = [Image.fromarray(frame).quantize(4) for frame in frames]
        first.save(folder / "beat.gif", save_all=True, append_images=others, duration=40)
        video = {"id": 7, "file_name": "beat.gif"}
    else:
        for name, frame in zip(names, frames, strict=True):
            save_image(folder / "images" / name, frame)
        video = {"id": 7, "name": "beat"}
    save_image(folder / "images" / "other.png", frames[0])
    images = [{"id": 1, "file_name": "other.png"}]
    images += [{"id": 2 + at, "file_name": name, "video_id": 7, "frame_id": at} for at, name in enumerate(names)]
    content = {"categories": [{"id": 1, "name": "heart"}], "images": images, "videos": [video]}
    content["annotations"] = [{"id": at, "image_id": 2 + at, "category_id": 1, "bbox": XYWH} for at in range(4)]
    (folder / "set.json").write_text(json.dumps(content))
    return folder / "set.json"


@pytest.mark.parametrize("in_file", [True, False], ids=["a file", "frames"])
def test_the_frames_of_a_video_are_one_series_of_one_patient(tmp_path, in_file):
    if in_file:
        pytest.importorskip("av", reason="reads video files")
    source = read_source(video_set(tmp_path, in_file=in_file))
    frames = [sample for sample in source.samples if sample.series]
    assert [(frame.series, frame.patient, frame.slice_index) for frame in frames] == [
        ("beat", "beat", at) for at in range(4)
    ]
    assert [sample.patient for sample in source.samples if not sample.series] == ["other"]
    for number, frame in enumerate(frames):
        pixels, [region] = frame.load()
        assert pixels.shape == (HEIGHT, WIDTH, 3) and abs(int(pixels.mean()) - (40 * number + 20)) <= 1
        assert region.label == "heart"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["images"][1].update(video_id=8), "beat/000.png is of unknown video 8"),
        (lambda content: content["images"][1].update(frame_id="0"), "beat/000.png has frame_id '0'"),
        (lambda content: content["videos"].append(content["videos"][0]), "videos with the same id 7"),
        (lambda content: content["images"][1].update(frame_id=4), "a video of 4 frames, of which frame 4 is labelled"),
    ],
    ids=["video", "frame", "twice", "beyond the end"],
)
def test_wrong_videos_are_refused(tmp_path, change, message):
    pytest.importorskip("av", reason="reads video files")
    path = video_set(tmp_path, in_file=True)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=re.escape(message)):
        [sample.load() for sample in read_source(path).samples]


@pytest.mark.parametrize("value", [1, 1e308, "text", True], ids=str)
def test_a_segmentation_that_is_neither_list_nor_object_is_refused(value):
    with pytest.raises(InputError, match="polygons, or run lengths"):
        read_mask(value, 30, 20, "a")


@pytest.mark.parametrize("number", [10**400, 1e308, float("nan")], ids=["digits", "large", "nan"])
def test_numbers_of_boxes_have_a_limit(number):
    with pytest.raises(InputError, match="bbox"):
        read_box([number, 1, 4, 4], 30, 20, "a")


def test_json_of_thousands_of_brackets_is_refused(tmp_path):
    (tmp_path / "set.json").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(InputError, match="unreadable"):
        read_source(tmp_path / "set.json")
