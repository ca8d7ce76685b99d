"""Networks of other projects with random weights: their plumbing, and that a row without weights has no figure."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest

if importlib.util.find_spec("mobile_sam") is None:  # not imported yet: torchvision's operators come first
    pytest.skip("needs the environment of requirements-eval.txt", allow_module_level=True)

from eval.__main__ import main
from eval.baselines.fast_sam import FastSAM
from eval.baselines.mobile_sam import MobileSAM
from eval.report import COLUMNS

pytestmark = [
    pytest.mark.baselines,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


def speckled(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


def test_mobilesam_answers_boxes_and_segments_everything():
    network = MobileSAM(None, threads=1, points_per_side=2, pred_iou_thresh=-100.0, stability_score_thresh=0.0)
    assert network.bytes == pytest.approx(40.6e6, rel=0.01)  # 10.1 million parameters
    pixels = speckled(60, 90)
    boxes = np.float32([[10, 10, 60, 50], [5, 5, 20, 20]])
    both = network.outline(pixels, boxes)
    assert (both.shape, both.dtype) == ((60, 90), bool)
    assert np.array_equal(both, network.outline(pixels, boxes[:1]) | network.outline(pixels, boxes[1:]))
    assert np.array_equal(both, MobileSAM(None, threads=1).outline(pixels, boxes))  # the same random weights
    masks = network.everything(pixels)
    assert masks
    assert all(mask.shape == (60, 90) for mask in masks)


def test_fastsam_answers_boxes_and_segments_everything():
    pytest.importorskip("ultralytics")
    network = FastSAM(None, threads=1, imgsz=64, conf=1e-6)
    assert network.bytes == pytest.approx(287e6, rel=0.02)
    pixels = speckled(60, 90)
    masks = network.everything(pixels)
    assert masks
    assert all(mask.shape == (60, 90) for mask in masks)
    picked = network.outline(pixels, np.float32([[10, 10, 60, 50]]))
    assert any(np.array_equal(picked, mask) for mask in masks)  # a box picks one of all masks
    assert not FastSAM(None, threads=1, imgsz=64).outline(pixels, np.float32([[10, 10, 60, 50]])).any()


def test_suppression_as_torchvision_has_it():
    torch = pytest.importorskip("torch")
    from eval.baselines.suppression import nms

    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 4], [20, 0, 30, 10]], dtype=torch.float32)
    assert nms(boxes, torch.tensor([0.5, 0.9, 0.3, 0.2]), 0.7).tolist() == [1, 2, 3]
    assert nms(boxes, torch.tensor([0.5, 0.9, 0.3, 0.95]), 0.3).tolist() == [3, 1]
    assert nms(boxes[:0], torch.zeros(0), 0.7).tolist() == []


def test_a_row_without_weights_has_size_and_speed_and_no_figure(data, tmp_path, release):
    out = tmp_path / "table"
    words = ["--data", data, "--out", out, "--weights", release.folder, "--threads", 1, "--rows", "mobilesam,nnunet"]
    words += ["--checkpoints", tmp_path / "none", "--nnunet", tmp_path / "none"]
    assert main(["table", *map(str, words)]) == 0
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert "figures" not in rows["mobilesam"]
    assert "hf download dhkim2810/MobileSAM mobile_sam.pt" in rows["mobilesam"]["absent"]
    assert rows["mobilesam"]["bytes"] == pytest.approx(40.6e6, rel=0.01)
    assert rows["mobilesam"]["milliseconds"]["p50"] > 0
    assert "python -m eval nnunet prepare" in rows["nnunet"]["reason"]
    (line,) = [line for line in (out / "table.md").read_text().splitlines() if line.startswith("| MobileSAM")]
    cells = dict(zip(COLUMNS, (cell.strip() for cell in line.strip("|").split("|")), strict=True))
    assert cells["images"] == "0"
    assert cells["Dice"].startswith("weights absent: mobile_sam.pt")
    assert {name for name, cell in cells.items() if cell} == {"row", "boxes", "images", "Dice", "MB", "ms", "published"}
    assert "arXiv 2306.14289" in cells["published"]
    assert not (out / "rows" / "mobilesam.jsonl").exists()
