"""What is kept of the last images: a correction runs the decoder alone, and no one's time is measured from it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from page.answers import _KEPT_SCANS, Answers
from page.canvas import canvas_value
from page.words import Words
from pipeline.edits import read_edits
from pipeline.errors import InputError

CHEST = "Phantom: chest X-ray"
EDITS = read_edits([{"action": "add", "box": [200, 200, 60, 80]}, {"action": "delete", "region": 1}])


@pytest.fixture(scope="module")
def answers(release) -> Answers:
    return Answers(str(release.folder), seconds=60)


@pytest.fixture
def runs(answers, monkeypatch) -> dict[str, int]:
    """How often the detector and the encoder were run."""
    segment, count = answers.segmenter("int8"), {"detect": 0, "embed": 0}

    def counted(stage, run):
        def counting(*given, **named):
            count[stage] += 1
            return run(*given, **named)

        return counting

    monkeypatch.setattr(segment.detector, "detect", counted("detect", segment.detector.detect))
    monkeypatch.setattr(segment.segmenter, "embed_input", counted("embed", segment.segmenter.embed_input))
    return count


def test_edits_and_undo_run_the_decoder_alone(answers, files, runs):
    question = answers.question(str(files[CHEST]), "int8", None, None)
    _, found = answers.ask_anew(question)
    before = dict(runs)
    for count in (1, 2, 1, 0, 2):
        _, corrected = answers.corrected(question, EDITS[:count])
        assert corrected.edits == EDITS[:count]
    assert runs == before
    assert answers.corrected(question)[1] is found


def test_corrections_are_found_again_where_nothing_is_kept(release, answers, files):
    question = answers.question(str(files[CHEST]), "int8", None, None)
    expected = answers.corrected(question, EDITS)[1]
    fresh = Answers(str(release.folder), seconds=60).corrected(question, EDITS)[1]
    assert fresh.labels == expected.labels
    assert np.array_equal(fresh.label_map(), expected.label_map())


def test_each_measured_run_embeds_anew(answers, files, runs):
    chest = answers.question(str(files[CHEST]), "int8", None, None)
    answers.ask(chest)
    start = runs["embed"]
    answers.ask(chest)
    assert runs["embed"] == start
    answers.ask_anew(chest)
    assert runs["embed"] == start + 1


def test_the_same_image_uploaded_again_goes_on_from_what_is_kept(answers, files, tmp_path, runs):
    answers.corrected(answers.question(str(files[CHEST]), "int8", None, None), EDITS[:1])
    shutil.copy(files[CHEST], tmp_path / "again.png")
    before = dict(runs)
    scan, _ = answers.corrected(answers.question(str(tmp_path / "again.png"), "int8", None, None), EDITS)
    assert runs == before
    assert scan.path == tmp_path / "again.png"


def test_an_upload_of_the_same_name_is_another_image(answers, files, tmp_path):
    path = tmp_path / "scan.png"
    shutil.copy(files[CHEST], path)
    question = answers.question(str(path), "int8", None, None)
    first = answers.corrected(question)[0]
    shutil.copy(files["Phantom: brain MRI"], path)
    assert answers.corrected(question)[0].pixels.shape != first.pixels.shape


def test_few_images_are_kept(answers, tmp_path):
    for number in range(_KEPT_SCANS + 3):
        Image.new("L", (64, 64), number).save(tmp_path / f"{number}.png")
        answers.ask(answers.question(str(tmp_path / f"{number}.png"), "int8", None, None))
    assert len(answers._scans) == _KEPT_SCANS


def test_masks_that_are_kept_have_a_bound_in_bytes(release, files, monkeypatch):
    answers = Answers(str(release.folder), seconds=60)
    five_masks = 5 * answers.segmenter("int8").segmenter.mask_size ** 2 * 4
    monkeypatch.setattr("page.answers._KEPT_MASK_BYTES", five_masks)
    question = answers.question(str(files[CHEST]), "int8", ["lung"], None)
    for count in range(4):
        answers.corrected(question, read_edits([{"action": "add", "box": [9, 9, 90, 90]}] * count))
    assert [len(found) for found in answers._kept.values()] == [5]


def test_errors_name_the_upload_alone(answers, files):
    with pytest.raises(InputError) as refused:
        answers.corrected(answers.question(str(files["text"]), "int8", None, None))
    assert refused.value.subject == files["text"].name


def test_the_canvas_is_given_masks_and_table_alike(answers, files):
    question = answers.question(str(files["NIfTI"]), "int8", None, 0.06)
    scan, found = answers.corrected(question, EDITS[:1])
    record = found.to_json("brain.nii.gz")
    value = canvas_value(None, found, record, Words("vi"), answers.class_names)
    assert value["picture"] == "" and value["grid"] == [768, 768]
    assert ["phổi" in pair for pair in value["labels"]].count(True) == 1
    for region, said in zip(value["regions"], record["detections"], strict=True):
        assert all(region[name] == said[name] for name in ("area_px", "area_mm2", "box", "label", "score"))
    assert [region["corrected"] for region in value["regions"]].count(True) == 1
    assert canvas_value(scan.pixels, found, record, Words(), {})["picture"].startswith("data:image/jpeg;base64,")
