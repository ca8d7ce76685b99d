"""SAM2 checkpoints in their official layout, with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sam2")

import torch

from eval.__main__ import main
from eval.baselines.checkpoints import CHECKPOINTS, Checkpoint
from eval.baselines.sam2_checkpoint import Sam2Checkpoint, configuration_of
from hub.release import file_entry
from pipeline.errors import InputError
from pipeline.training.architectures import build_segmenter

pytestmark = [pytest.mark.training, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("checkpoints") / "MedSAM2_latest.pt"
    torch.save({"model": build_segmenter(128).state_dict()}, path)
    return path


def test_a_checkpoint_outlines_boxes(checkpoint):
    network = Sam2Checkpoint("MedSAM2", checkpoint, 128, threads=1)
    assert network.bytes == pytest.approx(4 * 38.96e6, rel=0.01)
    pixels = np.random.default_rng(0).integers(0, 255, (70, 90, 3), np.uint8)
    boxes = np.float32([[10, 10, 60, 50], [5, 5, 20, 20]])
    both = network.outline(pixels, boxes)
    assert (both.shape, both.dtype) == ((70, 90), bool)
    assert np.array_equal(both, network.outline(pixels, boxes[:1]) | network.outline(pixels, boxes[1:]))
    # its weights, not random ones
    logits = [sam._predictor.model.no_mem_embed for sam in (network, Sam2Checkpoint("x", None, 128, threads=1))]
    assert torch.equal(logits[0], torch.load(checkpoint, weights_only=True)["model"]["no_mem_embed"])
    assert not torch.equal(*logits)


@pytest.mark.parametrize(
    ("blocks", "extra", "expected"),
    [
        (12, ["no_obj_embed_spatial"], "sam2.1/sam2.1_hiera_t"),
        (16, [], "sam2/sam2_hiera_s"),
        (24, ["no_obj_embed_spatial"], "sam2.1/sam2.1_hiera_b+"),
        (13, [], ""),
    ],
)
def test_its_configuration_is_seen_from_its_tensors(blocks, extra, expected):
    names = [f"image_encoder.trunk.blocks.{number}.norm1.weight" for number in range(blocks)]
    assert configuration_of(names + extra) == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: {"weight": torch.zeros(3)}, "not a SAM2 checkpoint"),
        (lambda state: {k: v for k, v in state.items() if "mask_decoder.iou" not in k}, "lacks"),
    ],
)
def test_another_checkpoint_is_refused(checkpoint, tmp_path, change, said):
    path = tmp_path / "other.pt"
    torch.save({"model": change(torch.load(checkpoint, weights_only=True)["model"])}, path)
    with pytest.raises(InputError, match=said):
        Sam2Checkpoint("MedSAM2", path, 128, threads=1)


def test_where_checkpoints_come_from(tmp_path, checkpoint):
    official = CHECKPOINTS["sam2.1-tiny"]
    assert official.find(tmp_path) is None
    assert f"--revision {official.revision} --local-dir {tmp_path}" in official.absent(tmp_path)
    (tmp_path / official.file).write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(InputError, match="fetch it again"):
        official.find(tmp_path)
    known = Checkpoint("x", checkpoint.name, "MIT", repo="a/b", sha256=file_entry(checkpoint)["sha256"])
    assert known.find(checkpoint.parent) == checkpoint
    assert CHECKPOINTS["fastsam"].command(tmp_path).startswith(f"curl -L --create-dirs -o {tmp_path}/FastSAM-x.pt http")


def test_a_checkpoint_becomes_a_row(data, tmp_path, release, checkpoint):
    """With its file in the folder of checkpoints a row has figures; without it size and speed alone."""
    words = ["--data", data, "--out", tmp_path / "table", "--weights", release.folder, "--threads", 1, "--limit", 1]
    words += ["--rows", "medsam2", "--checkpoints", tmp_path]
    assert main(["table", *map(str, words)]) == 0
    (tmp_path / checkpoint.name).write_bytes(checkpoint.read_bytes())
    before = json.loads((tmp_path / "table" / "results.json").read_text())["rows"]["medsam2"]
    assert "hf download wanglab/MedSAM2 MedSAM2_latest.pt" in before["absent"]
    assert "figures" not in before
    assert main(["table", *map(str, words)]) == 0
    row = json.loads((tmp_path / "table" / "results.json").read_text())["rows"]["medsam2"]
    assert row["figures"]["images"] == 1
    assert 0 <= row["figures"]["macro"]["dice"]["mean"] <= 1
    assert "absent" not in row
