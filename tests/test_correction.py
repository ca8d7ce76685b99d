"""A person's corrections, on the release's own networks: one mask changes, the encoder does not run again."""

from __future__ import annotations

import json
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from pipeline import AutoSegmenter, InputError, read_scan
from pipeline.coco_json import coco_json
from pipeline.correction import correct, correct_all
from pipeline.edits import Edit, read_edits
from pipeline.phantoms import write_phantoms
from pipeline.readers.nifti import label_map_as_stored
from pipeline.result_files import write_result_files
from pipeline.results import REGION_ID, Segmentation
from pipeline.scan import Scan

LEFT, RIGHT = [80, 85, 165, 350], [276, 85, 165, 360]


@pytest.fixture(scope="module")
def segment(release) -> AutoSegmenter:
    return AutoSegmenter.from_release(release.folder, release.precisions[0])


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Scan:
    return read_scan(write_phantoms(tmp_path_factory.mktemp("phantoms"))[0][0])


@pytest.fixture(scope="module")
def found(segment, scan) -> Segmentation:
    """Two regions, as if the detector had found them."""
    boxes = np.array([LEFT, RIGHT])
    drawn = segment(scan, boxes=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1))
    lungs = replace(drawn.detections, scores=np.float32([0.9, 0.8]), class_ids=np.int64([3, 3]))
    return replace(drawn, detections=lungs, labels=("lung", "lung"))


@pytest.fixture
def encoder_runs(segment, monkeypatch) -> list:
    runs, embed = [], segment.segmenter.embed_input
    monkeypatch.setattr(segment.segmenter, "embed_input", lambda *given: runs.append(1) or embed(*given))
    return runs


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_a_moved_box_gives_the_mask_of_that_box_and_changes_no_other(segment, scan, found, encoder_runs):
    moved = correct(segment, scan, found, Edit("box", region=1, box=(100, 120, 120, 200)))
    logits, _, _ = segment.outline(scan, np.float32([[100, 120, 220, 320]]), found.labels[:1], resize=found.resize)
    assert np.array_equal(moved.mask(0), found.resize.mask_back(logits[0]))
    assert dice(moved.mask(0), found.mask(0)) < 0.95
    assert np.array_equal(moved.mask_logits[1], found.mask_logits[1])
    assert moved.detections.boxes.tolist() == [[100, 120, 220, 320], found.detections.boxes[1].tolist()]
    assert moved.detections.scores.tolist() == pytest.approx([1, 0.8])
    assert [moved.is_corrected(index) for index in range(2)] == [True, False]
    assert encoder_runs == []


def test_nothing_is_changed_in_place_so_undo_is_the_segmentation_before(segment, scan, found):
    before = found.mask_logits.copy(), found.detections.boxes.copy(), found.to_json("a")
    correct_all(segment, scan, found, read_edits([
        {"action": "click", "region": 1, "point": [150, 300], "inside": False},
        {"action": "relabel", "region": 2, "label": "polyp"},
        {"action": "delete", "region": 1},
    ]))  # fmt: skip
    assert np.array_equal(found.mask_logits, before[0]) and np.array_equal(found.detections.boxes, before[1])
    assert found.to_json("a") == before[2]
    assert correct_all(segment, scan, found, ()) is found


def test_clicks_reach_the_decoder_together_with_the_box(segment, scan, found, encoder_runs):
    """Each region's clicks add up, and each is obeyed."""
    once = correct(segment, scan, found, Edit("click", region=1, point=(150.0, 200.0), inside=False))
    twice = correct(segment, scan, once, Edit("click", region=1, point=(180.0, 300.0), inside=True))
    points, labels = np.float32([[[150, 200], [180, 300]]]), np.int64([[0, 1]])
    given = found.detections.boxes[:1], found.labels[:1], points, labels
    expected, ious, _ = segment.outline(scan, *given, resize=found.resize)
    assert np.array_equal(twice.mask_logits[0], expected[0])
    assert twice.mask_ious[0] == ious[0]
    assert found.mask(0)[200, 150] and not once.mask(0)[200, 150]
    assert not twice.mask(0)[200, 150] and twice.mask(0)[300, 180]
    assert twice.clicks[0].points == ((150, 200), (180, 300)) and twice.clicks[0].inside == (False, True)
    assert twice.clicks[1] is None
    assert encoder_runs == []


def test_a_click_that_adds_outside_of_the_box_makes_the_box_reach_it(segment, scan, found):
    x0, y0, x1, y1 = found.detections.boxes[0]
    wider = correct(segment, scan, found, Edit("click", region=1, point=(20.0, 200.0)))
    assert wider.detections.boxes[0].tolist() == pytest.approx([20 - 5.12, y0, x1, y1], abs=0.01)
    same = correct(segment, scan, found, Edit("click", region=1, point=(20.0, 200.0), inside=False))
    assert same.detections.boxes[0].tolist() == [x0, y0, x1, y1]


def test_a_new_box_forgets_the_clicks_that_it_leaves_outside(segment, scan, found):
    clicked = correct_all(segment, scan, found, read_edits([
        {"action": "click", "region": 1, "point": [150, 200]}, {"action": "click", "region": 1, "point": [150, 400]},
    ]))  # fmt: skip
    moved = correct(segment, scan, clicked, Edit("box", region=1, box=(80, 85, 165, 200)))
    assert moved.clicks[0].points == ((150, 200),)


def test_a_drawn_box_is_added_at_the_end_even_where_nothing_was_found(segment, scan):
    empty = segment(scan, min_score=1)
    assert len(empty) == 0
    drawn = correct(segment, scan, empty, Edit("add", box=(80, 85, 400, 1000)))
    assert (drawn.labels, drawn.detections.class_ids.tolist()) == (("region",), [REGION_ID])
    assert drawn.detections.boxes.tolist() == [[80, 85, 480, 512]]
    both = correct(segment, scan, drawn, Edit("add", box=tuple(RIGHT), label="lung"))
    assert (both.labels, both.detections.class_ids.tolist()) == (("region", "lung"), [REGION_ID, 3])
    assert both.is_corrected(0) and both.is_corrected(1)


def test_relabel_and_delete(segment, scan, found):
    other = correct(segment, scan, found, Edit("relabel", region=2, label="polyp"))
    assert (other.labels, other.detections.class_ids.tolist()) == (("lung", "polyp"), [3, 5])
    assert np.array_equal(other.mask_logits, found.mask_logits)
    assert [other.is_corrected(0), other.is_corrected(1)] == [False, True]
    left = correct(segment, scan, other, Edit("delete", region=1))
    assert left.labels == ("polyp",) and left.is_corrected(0)
    assert np.array_equal(left.mask_logits, found.mask_logits[1:])
    assert correct(segment, scan, left, Edit("delete", region=1)).labels == ()


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (Edit("delete", region=3), "region 3: no such region; expected 1 to 2"),
        (Edit("add", box=(600, 0, 50, 50)), "box 600,0,50,50: lies outside of the image"),
        (Edit("box", region=1, box=(-60, 0, 50, 50)), "box -60,0,50,50: lies outside of the image"),
        (Edit("click", region=1, point=(513, 4)), "click 513,4: lies outside of the image; expected a point of its"),
        (Edit("relabel", region=1, label="nose"), "label: 'nose' is not a class of these weights"),
        (Edit("add", box=(1, 1, 9, 9), label="nose"), "label: 'nose' is not a class of these weights"),
    ],
)
def test_what_can_not_be_corrected_is_refused(segment, scan, found, edit, sentence):
    with pytest.raises(InputError) as refused:
        correct(segment, scan, found, edit)
    assert sentence in str(refused.value)


def test_what_was_corrected_is_marked_in_every_file(segment, scan, found, tmp_path):
    edits = [{"action": "delete", "region": 1}, {"action": "add", "box": [80, 85, 100, 100], "label": "polyp"}]
    corrected = correct_all(segment, scan, found, read_edits(edits))
    note = "corrected by a person: 2 polyp; 1 deleted"
    assert (corrected.note, found.note) == (note, None)

    write_result_files(tmp_path, "scan", "scan.png", scan.pixels, corrected)
    record = json.loads((tmp_path / "scan.json").read_text("utf-8"))
    assert ["corrected" in region for region in record["detections"]] == [False, True]
    assert record["edits"] == edits
    for name in ("scan_mask.png", "scan_overlay.png"):
        assert Image.open(tmp_path / name).text == {"Comment": note}

    (tmp_path / "coco.json").write_text(json.dumps(coco_json(corrected, "scan.png", segment.class_names)))
    coco = COCO(tmp_path / "coco.json")
    assert ["corrected" in one for one in coco.dataset["annotations"]] == [False, True]
    assert coco.dataset["info"]["edits"] == edits

    nibabel.save(nibabel.Nifti1Image(np.zeros((512, 512), np.uint8), np.eye(4)), tmp_path / "scan.nii.gz")
    labels = label_map_as_stored(tmp_path / "scan.nii.gz", corrected.label_map(), corrected.note)
    assert labels.header["descrip"].item().decode() == note


def test_what_no_one_corrected_is_written_as_before(scan, found, tmp_path):
    write_result_files(tmp_path, "scan", "scan.png", scan.pixels, found)
    record = json.loads((tmp_path / "scan.json").read_text("utf-8"))
    assert "edits" not in record and not any("corrected" in region for region in record["detections"])
    assert Image.open(tmp_path / "scan_mask.png").text == {}
