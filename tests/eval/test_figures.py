"""The figures command, on a miniature data set that the release's own networks segment."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("scipy")

from eval.__main__ import main
from eval.figures import manifest_figures
from eval.records import Record

pytestmark = pytest.mark.training


def test_true_boxes_give_masks_and_the_file_says_how(data, tmp_path, release):
    out, images = tmp_path / "figures.json", tmp_path / "images.jsonl"
    words = ["--data", data, "--weights", release.folder, "--precisions", "int8", "--true-boxes", "--threads", 1]
    assert main(["figures", *map(str, words), "--out", str(out), "--images-out", str(images)]) == 0
    figures = json.loads(out.read_text())
    assert (figures["split"], figures["command"][-12:]) == ("test", "--true-boxes")
    source = figures["int8"]["sources"]["hc18_mini"]
    assert (source["class"], source["images"], source["empty_images"]) == ("fetal_head", 2, 1)
    assert (source["box_recall_50"], source["matched_box_iou"]) == (1.0, 1.0)
    assert figures["int8"]["macro"]["dice"] == source["dice"]
    rows = [json.loads(line) for line in images.read_text().splitlines()]
    assert [row["sample"] for row in rows] == ["000_HC", "001_HC", "002_HC"]
    assert [row["dice"] is None for row in rows] == [False, False, True]
    low, high = source["dice_95"]
    assert low <= source["dice"] <= high
    assert figures["int8"]["macro"]["iou_95"] == source["iou_95"]
    assert source["dice"] == pytest.approx(np.mean([row["dice"] for row in rows[:2]]), abs=1e-4)


def test_absent_data_is_one_sentence(tmp_path, release, capsys):
    words = ["figures", "--data", str(tmp_path / "absent"), "--weights", str(release.folder), "--out", "never.json"]
    assert main(words) == 2
    assert "no such file or folder" in capsys.readouterr().err


def test_means_misses_and_empty_images():
    def row(source: str, dice: float | None, boxes: list, true_boxes: list, others: int = 0) -> Record:
        label = f"class_{source}"
        return Record(source, "s", "p", label, dice, dice, dice, 10.0, boxes, others, true_boxes)

    ten, nine, none = [0, 0, 10, 10], [0, 0, 10, 9], []
    rows = [
        row("a", 1.0, [nine], [ten]),
        row("a", 0.0, none, [ten]),
        row("a", None, [ten], none, others=1),
        row("b", 0.8, [[0, 0, 10, 6], [20, 0, 30, 4]], [ten, [20, 0, 30, 10]]),
    ]
    figures = manifest_figures(rows)
    assert figures["sources"]["a"] == {
        "class": "class_a",
        "images": 2,
        "dice": 0.5,
        "iou": 0.5,
        "dice_95": [0.5, 0.5],  # one patient
        "iou_95": [0.5, 0.5],
        "box_recall_50": 0.5,
        "matched_box_iou": 0.9,
        "empty_images": 1,
        "false_positives_per_empty_image": 2.0,
    }
    assert figures["sources"]["b"]["box_recall_50"] == 0.5
    assert figures["sources"]["b"]["false_positives_per_empty_image"] is None
    assert figures["macro"]["dice"] == 0.65
    assert figures["macro"]["false_positives_per_empty_image"] == 2.0
