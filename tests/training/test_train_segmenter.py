"""The segmenter's training, really run: distillation and masks, a few steps on drawn discs."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pipeline.errors import InputError  # noqa: E402
from pipeline.training import train_segmenter  # noqa: E402
from pipeline.training.architectures import build_segmenter  # noqa: E402
from pipeline.training.augment import near_placement, place, squash_placement  # noqa: E402
from pipeline.training.lite_medsam import warm_start  # noqa: E402
from pipeline.training.progress import load_weights, read_weights  # noqa: E402
from pipeline.training.segmenter_parts import decode, embed, mask_losses  # noqa: E402
from tests.training.drawn import draw_prepared  # noqa: E402

pytestmark = [pytest.mark.training, pytest.mark.filterwarnings("ignore")]  # sam2's and LiteMedSAM's packages warn a lot


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return draw_prepared(tmp_path_factory.mktemp("prepared"))


def run(*words: object) -> None:
    parser = argparse.ArgumentParser()
    train_segmenter.add_arguments(parser)
    train_segmenter.run(parser.parse_args([str(word) for word in words]))


def rows(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_distillation_then_masks_then_resume(prepared, tmp_path):
    common = ("--data", prepared, "--size", 128, "--batch", 2, "--warmup", 2, "--val-images", 2)
    first = tmp_path / "distilled"
    run(*common, "--out", first, "--objective", "distill", "--teacher-images", 4, "--epochs", 1, "--samples", 24)
    assert rows(first)[-1]["step"] == 12
    assert rows(first)[-1]["cosine"] > 0.02
    assert np.load(first / "teacher" / "embedding.npy").shape == (4, 256, 32, 32)

    second = tmp_path / "masks"
    init = ("--init", first / "segmenter.safetensors")
    run(*common, "--out", second, *init, "--epochs", 1, "--samples", 12, "--lr", 1e-3)
    run(*common, "--out", second, *init, "--epochs", 4, "--samples", 12, "--lr", 1e-3, "--resume")
    early, late = rows(second)[0], rows(second)[-1]
    assert (early["step"], late["step"]) == (6, 24)
    assert late["loss"] < early["loss"]
    assert 0 <= late["val_dice"] <= 1
    before, after = (read_weights(folder / "segmenter.safetensors") for folder in (first, second))
    memory = [name for name in before if name.startswith(("memory_attention.", "memory_encoder."))]
    assert memory
    assert all(torch.equal(before[name], after[name]) for name in memory)
    assert not torch.equal(
        before["sam_mask_decoder.pred_obj_score_head.layers.2.weight"],
        after["sam_mask_decoder.pred_obj_score_head.layers.2.weight"],
    )


def test_warm_start_takes_the_decoder_and_starts_without_high_resolution():
    segmenter = build_segmenter(128)
    assert warm_start(segmenter) == 137
    images = torch.randint(0, 256, (1, 3, 128, 128), dtype=torch.uint8)
    with torch.no_grad():
        embedding = embed(segmenter.eval(), images)
        assert all(level.abs().max() == 0 for level in embedding.high_res)
        boxes = torch.tensor([[20.0, 20, 90, 90], [5, 5, 60, 100]])
        logits, ious, objects = decode(segmenter, embedding, boxes, torch.zeros(2, dtype=torch.long))
    assert logits.shape == (2, 32, 32)
    assert ious.shape == objects.shape == (2,)
    assert not torch.equal(logits[0], logits[1])


@pytest.fixture(scope="module")
def official(tmp_path_factory) -> dict:
    """A checkpoint laid out as MedSAM2's and Medical SAM 2's: {'model': state dict}."""
    folder = tmp_path_factory.mktemp("official")
    state = build_segmenter().state_dict()
    lacking = {name: value for name, value in state.items() if name != "maskmem_tpos_enc"}
    reshaped = state | {"no_mem_embed": torch.zeros(1, 1, 8)}
    for name, content in (("good", state), ("lacking", lacking), ("reshaped", reshaped)):
        torch.save({"model": content}, folder / f"{name}.pt")
    torch.save({"model": {"weight": object()}}, folder / "pickle.pt")
    (folder / "noise.pt").write_bytes(b"not a checkpoint")
    return {"folder": folder, "state": state}


def test_official_checkpoint_loads_strictly(official):
    segmenter = build_segmenter()
    load_weights(segmenter, official["folder"] / "good.pt")
    assert all(torch.equal(value, official["state"][name]) for name, value in segmenter.state_dict().items())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        pytest.param("lacking.pt", r"lacks 1 \(maskmem_tpos_enc\)", id="a tensor is missing"),
        pytest.param("reshaped.pt", r"another shape of 1 \(no_mem_embed\)", id="another shape"),
        pytest.param("pickle.pt", "more than tensors", id="code inside"),
        pytest.param("noise.pt", "unreadable|more than tensors", id="not a checkpoint"),
        pytest.param("absent.pt", "no such file", id="absent"),
    ],
)
def test_wrong_checkpoints_are_named(official, name, sentence):
    with pytest.raises(InputError, match=sentence):
        load_weights(build_segmenter(), official["folder"] / name)


def test_mask_losses_of_known_masks():
    truth = torch.zeros(2, 16, 16)
    truth[:, 4:12, 4:12] = 1
    boxes = torch.tensor([[4.0, 4, 12, 12]] * 2)
    real, sure = torch.tensor([True, True]), torch.full((2,), 9.0)
    right = mask_losses((truth - 0.5) * 40, torch.ones(2), sure, truth, boxes, real)
    assert all(float(value) == pytest.approx(0, abs=1e-3) for value in right.values())
    wrong = mask_losses((0.5 - truth) * 40, torch.ones(2), -sure, truth, boxes, real)
    assert float(wrong["dice"]) > 0.95
    assert float(wrong["iou"]) == pytest.approx(1.0)
    assert float(wrong["object"]) > 8


def test_a_prompt_on_nothing_only_teaches_the_object_score():
    logits = torch.randn(1, 16, 16, requires_grad=True)
    objects = torch.zeros(1, requires_grad=True)
    losses = mask_losses(
        logits, torch.ones(1), objects, torch.zeros(1, 16, 16), torch.ones(1, 4), torch.tensor([False])
    )
    sum(losses.values()).backward()
    assert float(logits.grad.abs().max()) == 0
    assert float(objects.grad[0]) == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(5))
def test_jittered_boxes_stay_near_and_inside(seed):
    box = np.array([100, 120, 300, 260], np.float32)
    moved = train_segmenter.jitter(box, 512, np.random.default_rng(seed), 0.06)
    assert (np.abs(moved - box) <= 2 * 0.06 * np.array([200, 140, 200, 140]) + 1e-3).all()
    assert (moved[:2] >= 0).all()
    assert (moved[2:] <= 512).all()


def test_squash_fills_the_input_with_the_content():
    canvas = np.zeros((640, 640), np.uint8)
    canvas[160:480] = 200
    squashed = place(canvas, squash_placement((0, 160, 640, 480), 256, None), 256)
    assert (squashed[2:-2] == 200).all()


@pytest.mark.parametrize("content", [(0, 0, 640, 640), (0, 100, 640, 540)], ids=["whole-canvas", "letterboxed"])
def test_surroundings_show_a_region_larger(content):
    """The box stays in sight, at 1/5 to 1/1.5 of the view, and nothing of the canvas' border is shown."""
    rng, box = np.random.default_rng(0), np.array([300.0, 200, 380, 240])
    corners = np.array([[0, 0], [256, 256]])
    for _ in range(200):
        matrix = near_placement(box, content, 256, rng)
        seen = box.reshape(2, 2) @ matrix[:, :2].T + matrix[:, 2]
        assert (seen > -0.35 * 256).all() and (seen < 1.35 * 256).all()
        middle = seen.mean(0)
        assert (middle > 0).all() and (middle < 256).all()
        assert 1 / 5.6 < abs(seen[1, 0] - seen[0, 0]) / 256 < 1 / 1.3
        shown = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        assert (shown.min(0) >= np.array(content[:2]) - 1e-6).all()
        assert (shown.max(0) <= np.array(content[2:]) + 1e-6).all()
