"""An official checkpoint becomes a release beside the shipped detector. The checkpoint's weights are random."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.training

from hub import Release, resolve  # noqa: E402
from pipeline import AutoSegmenter  # noqa: E402
from pipeline.cli import main  # noqa: E402
from pipeline.memory import Memory, MemoryBank  # noqa: E402
from pipeline.segmenter import Segmenter  # noqa: E402
from tests.hub.conftest import Machine, loopback  # noqa: E402, F401

BOX = np.array([[100, 100, 300, 260]], np.float32)


@pytest.fixture(scope="module")
def checkpoint(random_weights, tmp_path_factory):
    """In the official layout."""
    from safetensors.torch import load_file

    path = tmp_path_factory.mktemp("official") / "MedSAM2_latest.pt"
    torch.save({"model": load_file(random_weights["segmenter"])}, path)
    return path


@pytest.fixture(scope="module")
def imported(checkpoint, tmp_path_factory) -> Release:
    out = tmp_path_factory.mktemp("imported") / "release"
    assert main(["import-medsam2", "--checkpoint", str(checkpoint), "--out", str(out), "--version", "1.0.0"]) == 0
    return Release.open(out)


def test_it_holds_both_precisions_and_the_shipped_detector_byte_for_byte(imported):
    assert imported.precisions == ("int8", "fp32")
    base = resolve().manifest["files"]
    for name in ("onnx/int8/detector.onnx", "onnx/fp32/detector.onnx"):
        assert imported.manifest["files"][name] == base[name]
    assert imported.manifest["files"]["onnx/fp32/image_encoder.onnx"] != base["onnx/fp32/image_encoder.onnx"]
    encoders = [imported.manifest["files"][f"onnx/{p}/image_encoder.onnx"]["bytes"] for p in ("int8", "fp32")]
    assert encoders[0] < 0.7 * encoders[1]
    assert "scope" not in imported.config


def test_licence_and_source_stand_in_manifest_and_card(imported, checkpoint):
    (name,) = imported.manifest["licenses"]
    told = imported.manifest["licenses"][name]
    assert (name, told["license"]) == ("segmenter", "CC-BY-SA-4.0")
    assert told["source"].startswith("MedSAM2_latest.pt, sha256 ")
    card = (imported.folder / "README.md").read_text("utf-8")
    assert "The segmenter is under CC-BY-SA-4.0, as its source: MedSAM2_latest.pt, sha256 " in card
    assert "- segmenter: MedSAM2, imported from MedSAM2_latest.pt" in card
    assert "No figures were measured for this release yet." in card


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_it_outlines_a_box(imported, phantoms, precision):
    found = AutoSegmenter.from_release(imported.folder, precision, threads=1)(phantoms[0], boxes=BOX)
    assert np.isfinite(found.mask_logits).all()
    assert found.weights["version"] == "1.0.0"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_its_memory_carries_a_mask_to_the_next_frame(imported, phantoms, precision):
    segmenter = Segmenter.from_release(imported, precision, threads=1)
    memory, bank = Memory.from_release(imported, precision, threads=1), MemoryBank()
    embedding = segmenter.embed(phantoms[0])
    memory.remember(bank, embedding, 0, segmenter.decode_prompts(embedding, boxes=BOX), prompted=True)
    decoded = segmenter.decode_conditioned(embedding, memory.condition(embedding, bank, 1))
    assert decoded.mask_logits.shape == (1, segmenter.mask_size, segmenter.mask_size)
    assert np.isfinite(decoded.mask_logits).all()
    memory.remember(bank, embedding, 1, decoded)
    assert len(bank) == 2


def test_all_int8_files_together_stay_small(imported):
    assert imported.manifest["precisions"]["int8"]["bytes"] <= 60e6


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--checkpoint", "nowhere.pt"], "nowhere.pt: no such file"),
        (["--checkpoint", "DETECTOR"], "not these weights"),
        (["--repo", "someone/else"], "--license: someone/else is not wanglab/MedSAM2"),
        (["--repo", "nonsense"], "'nonsense': no name of a repository"),
    ],
)
def test_what_is_no_checkpoint_is_one_sentence(random_weights, tmp_path, capsys, arguments, says):
    arguments = [word.replace("DETECTOR", str(random_weights["detector"])) for word in arguments]
    assert main(["import-medsam2", *arguments, "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_checkpoint_is_fetched_from_the_hub_and_its_commit_recorded(loopback, checkpoint, imported, tmp_path):  # noqa: F811
    commit = loopback.add("wanglab/MedSAM2", {"MedSAM2_latest.pt": checkpoint.read_bytes()})
    machine, out = Machine(loopback, tmp_path / "hf"), tmp_path / "out"
    done = machine.run("-m", "pipeline", "import-medsam2", "--repo", "wanglab/MedSAM2", "--out", out)
    assert done.returncode == 0, done.stderr
    release = Release.open(out)
    assert release.manifest["licenses"]["segmenter"]["source"].startswith(
        f"wanglab/MedSAM2@{commit}, MedSAM2_latest.pt, sha256 "
    )
    encoder = "onnx/fp32/image_encoder.onnx"
    assert release.manifest["files"][encoder]["bytes"] == imported.manifest["files"][encoder]["bytes"]
