"""The detector's training, really run: drawn discs, a few steps."""

from __future__ import annotations

import argparse
import copy
import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import cv2  # noqa: E402
import onnx  # noqa: E402
from onnx.numpy_helper import from_array, to_array  # noqa: E402

from hub.revision import git_revision  # noqa: E402
from pipeline import cli  # noqa: E402
from pipeline.errors import InputError  # noqa: E402
from pipeline.training import train_detector  # noqa: E402
from pipeline.training.architectures import build_detector  # noqa: E402
from pipeline.training.augment import place, place_outlines, random_placement, turn, vary_intensity  # noqa: E402
from pipeline.training.collage import Collage  # noqa: E402
from pipeline.training.detection_metrics import evaluate_boxes  # noqa: E402
from pipeline.training.export import detector_onnx, save_graph, store_half  # noqa: E402
from pipeline.training.fused_detector import load_fused, ordinary_weights  # noqa: E402
from pipeline.training.mask_loss import UNKNOWN, mask_loss  # noqa: E402
from pipeline.training.prepared import PreparedSplit  # noqa: E402
from pipeline.training.progress import Budget, learning_rate, read_weights, save_weights  # noqa: E402
from pipeline.training.record import plot_log, read_record  # noqa: E402
from tests.training.drawn import draw_prepared  # noqa: E402

pytestmark = [pytest.mark.training, pytest.mark.filterwarnings("ignore")]  # super-gradients and its packages warn a lot


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return draw_prepared(tmp_path_factory.mktemp("prepared"))


def run(*words: object) -> None:
    parser = argparse.ArgumentParser()
    train_detector.add_arguments(parser)
    train_detector.run(parser.parse_args([str(word) for word in words]))


def rows(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_training_stops_and_goes_on(prepared, tmp_path):
    common = ("--data", prepared, "--out", tmp_path, "--size", 64, "--batch", 4, "--warmup", 5, "--val-images", 2)
    run(*common, "--epochs", 1, "--samples", 40, "--seed", 1, "--mask-loss", 0.2)
    first = rows(tmp_path)[-1]
    assert first["step"] == 10
    assert {"ap50", "ap50_95", "recall", "recall_dot", "recall_blob", "boxes_an_empty_image"} <= first.keys()
    before = read_weights(tmp_path / "detector.safetensors")
    run(*common, "--epochs", 3, "--samples", 40, "--seed", 1, "--mask-loss", 0.2, "--resume")
    last = rows(tmp_path)[-1]
    assert last["step"] == 30
    assert last["minutes"] > first["minutes"]
    after = read_weights(tmp_path / "detector.safetensors")
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    started, resumed = read_record(tmp_path / "detector.json")
    assert (started["samples"], resumed["samples"]) == (40, 120)
    assert started["seed"] == 1
    assert started["data"] == resumed["data"]
    assert len(started["data"]) == 16
    assert started["revision"] == git_revision()
    after = ("--init", tmp_path / "detector.safetensors", "--out", tmp_path / "after", "--epochs", 1, "--samples", 8)
    run(*common, *after)
    assert [r["samples"] for r in read_record(tmp_path / "after" / "detector.json")] == [40, 120, 8]
    assert plot_log(tmp_path / "log.jsonl", "detector", tmp_path / "plots" / "log.png")
    assert cv2.imread(str(tmp_path / "plots" / "log.png")).std() > 5


def test_one_batch_can_be_learned_by_heart(prepared):
    from super_gradients.training.losses import PPYoloELoss

    torch.manual_seed(0)
    samples = iter(train_detector.DetectorSamples(Collage(PreparedSplit.read(prepared, "train"), 96, 0.0), seed=0))
    images, targets, _ = train_detector.collate([next(samples) for _ in range(3)])
    model = build_detector(2).train()
    loss_of = PPYoloELoss(num_classes=2, use_static_assigner=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(40):
        loss, _ = loss_of(train_detector.raw_predictions(model(images.float() / 255)), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.7 * max(losses)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A released detector of two classes: (the network, its detector.onnx)."""
    torch.manual_seed(0)
    detector = build_detector(2)
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        detector.train()(torch.rand(2, 3, 320, 320))
    path = tmp_path_factory.mktemp("released") / "detector.onnx"
    detector.eval()
    save_graph(store_half(detector_onnx(copy.deepcopy(detector), 320)), path)
    return detector, path


def test_a_released_detector_trains_on_in_fused_form(prepared, released, tmp_path):
    detector, path = released
    images = torch.rand(2, 3, 320, 320)
    fused = load_fused(path, 2).eval()
    ordinary = build_detector(2).eval()
    ordinary.load_state_dict(ordinary_weights(fused, 2, [torch.rand(2, 3, 320, 320)]))
    with torch.no_grad():
        wanted, through, back = (module(images)[0] for module in (detector, fused, ordinary))
        trained = ordinary.train()(images)  # statistics of such images: training starts where the weights are
    for found, of_fused, true in zip(back, through, wanted, strict=True):
        # the graph holds float16, which random layers amplify here and there
        assert (of_fused - true).abs().mean() < 0.01 * true.abs().mean() + 1e-4
        torch.testing.assert_close(found, of_fused, rtol=1e-3, atol=0.02)
    assert torch.isfinite(trained[-1][0] if isinstance(trained[-1], tuple) else trained[0]).all()

    common = ("--data", prepared, "--out", tmp_path, "--size", 64, "--batch", 4, "--warmup", 2, "--val-images", 2)
    run(*common, "--init", path, "--epochs", 1, "--samples", 8, "--mask-loss", 0.5)
    assert rows(tmp_path)[-1]["loss_mask"] > 0
    after = read_weights(tmp_path / "detector.safetensors")
    assert after.keys() == detector.state_dict().keys()  # without the head that painted
    assert all(torch.isfinite(value).all() for value in after.values() if value.is_floating_point())


def test_other_classes_keep_all_but_the_class_layers(released):
    same, other = load_fused(released[1], 2).state_dict(), load_fused(released[1], 3).state_dict()
    changed = {
        name for name in same if same[name].shape != other[name].shape or not torch.equal(same[name], other[name])
    }
    assert changed == {f"heads.head{level}.cls_pred.{kind}" for level in (1, 2, 3) for kind in ("weight", "bias")}


def test_mean_of_released_detectors(released, tmp_path):
    """As each where both are the same; and where one is surer of its classes, half as much surer."""
    path = released[1]
    surer = onnx.load(path)
    for weights in surer.graph.initializer:
        if "cls_pred.bias" in weights.name:
            weights.CopyFrom(from_array(to_array(weights) + 1, weights.name))
    onnx.save(surer, tmp_path / "surer.onnx")
    images = torch.rand(1, 3, 320, 320)
    found = []
    for other in (path, tmp_path / "surer.onnx"):
        out = tmp_path / "mean.safetensors"
        assert cli.main(["average", str(path), str(other), "--out", str(out)]) == 0
        mean = build_detector(2).eval()
        mean.load_state_dict(read_weights(out))
        with torch.no_grad():
            found.append(mean(images)[0])
    with torch.no_grad():
        boxes, scores = load_fused(path).eval()(images)[0]
    torch.testing.assert_close(found[0][1], scores, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found[1][0], boxes, rtol=1e-3, atol=0.02)
    torch.testing.assert_close(found[1][1].logit() - scores.logit(), torch.full_like(scores, 0.5), rtol=0, atol=0.02)


def test_a_graph_and_weights_have_no_mean(released, tmp_path, capsys):
    save_weights(released[0].state_dict(), tmp_path / "detector.safetensors")
    files = [str(released[1]), str(tmp_path / "detector.safetensors")]
    assert cli.main(["average", *files, "--out", str(tmp_path / "mean.safetensors")]) == 2
    assert "graphs alone, or weights alone" in capsys.readouterr().err


def test_what_is_no_detector_is_refused(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"no graph")
    with pytest.raises(InputError, match=r"a\.onnx: unreadable"):
        load_fused(tmp_path / "a.onnx", 2)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        pytest.param(["--size", 100], "--size: 100; expected a multiple of 32", id="size"),
        pytest.param(["--resume"], "no checkpoint to resume", id="nothing to resume"),
        pytest.param(["--init", "absent.safetensors"], "no such file", id="absent weights"),
    ],
)
def test_refusals(prepared, tmp_path, words, sentence):
    with pytest.raises(InputError, match=sentence):
        run("--data", prepared, "--out", tmp_path, "--size", 64, *words)


def test_a_folder_that_was_not_prepared(tmp_path):
    with pytest.raises(InputError, match=r"train\.json.*expected a folder that"):
        run("--data", tmp_path, "--out", tmp_path)


@pytest.mark.parametrize("degrees", [0, 12, -90, 143])
@pytest.mark.parametrize("seed", range(4))
def test_boxes_follow_their_pixels(seed, degrees):
    rng = np.random.default_rng(seed)
    rows_, columns = np.mgrid[:640, :640]
    canvas = (((columns - 330) / 90) ** 2 + ((rows_ - 300) / 50) ** 2 < 1).astype(np.uint8) * 255
    outline = cv2.findContours(canvas, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0][0].reshape(-1, 2) + 0.5
    matrix = turn(random_placement(320, 640, rng, scales=(0.6, 1.2)), degrees, 320)
    moved = place(canvas, matrix, 320) > 127
    boxes, keep = place_outlines([outline], matrix, 320)
    assert keep.all()
    rows_, columns = np.flatnonzero(moved.any(1)), np.flatnonzero(moved.any(0))
    assert boxes[0] == pytest.approx([columns[0], rows_[0], columns[-1] + 1, rows_[-1] + 1], abs=2)


def bright(view, box) -> float:
    """The share of a box that shows disc; pi / 4 where it is a whole one."""
    left, top, right, bottom = box.round().astype(int)
    return (cv2.GaussianBlur(view.pixels[..., 0], (0, 0), 1)[top:bottom, left:right] > 100).mean()


@pytest.mark.parametrize(("mosaic", "most"), [(0.0, 1), (1.0, 4)])
def test_a_collage_s_boxes_lie_on_its_discs(prepared, mosaic, most):
    collage, rng = Collage(PreparedSplit.read(prepared, "train"), 160, 0.0, mosaic), np.random.default_rng(0)
    views = [collage.draw(rng) for _ in range(30)]
    for view in views:
        assert view.pixels.shape == (160, 160, 3)
        assert len(view.boxes) == len(view.class_index) <= most
        assert all(bright(view, box) > 0.6 for box in view.boxes)
        for box, class_index in zip(view.boxes, view.class_index, strict=True):
            left, top, right, bottom = box.round().astype(int)
            inside = view.regions[top:bottom, left:right] == class_index + 1
            assert (cv2.blur(view.pixels[top:bottom, left:right, 0], (5, 5))[inside] > 90).mean() > 0.95
            assert inside.mean() > 0.6
        assert set(np.unique(view.regions)) <= {0, 1, 2}
    assert max(len(view.boxes) for view in views) == most


def test_regions_without_a_mask_are_unknown(prepared):
    split = PreparedSplit.read(prepared, "train")
    split = replace(split, images=tuple(replace(image, rles=(None,) * len(image.rles)) for image in split.images))
    seen = {tuple(np.unique(Collage(split, 64, 0.0).draw(np.random.default_rng(n)).regions)) for n in range(20)}
    assert seen <= {(UNKNOWN,), (0,)}  # an image without regions is known to show none
    assert (UNKNOWN,) in seen


def test_mask_loss_falls_to_where_the_truth_is_painted():
    regions = torch.zeros(2, 32, 32, dtype=torch.uint8)
    regions[0, 8:24, 8:16] = 2
    regions[1] = UNKNOWN
    right = torch.full((2, 3, 4, 4), -12.0)
    right[0, 1, 1:3, 1] = 12.0
    assert mask_loss(right, regions) < 0.1
    other_class, elsewhere = right.roll(1, dims=1), right.roll(1, dims=3)
    assert mask_loss(other_class, regions) > 1
    assert mask_loss(elsewhere, regions) > 1
    unknown = right.clone()
    unknown[1] = 5.0
    torch.testing.assert_close(mask_loss(unknown, regions), mask_loss(right, regions))


def test_pasted_regions_bring_their_boxes_and_hide_what_they_cover(prepared):
    split, rng = PreparedSplit.read(prepared, "train"), np.random.default_rng(0)
    alone = [Collage(split, 160, 0.0).draw(rng) for _ in range(40)]
    both = [Collage(split, 160, 0.0, copy_paste={"first": 1.0, "second": 1.0}).draw(rng) for _ in range(40)]
    assert {len(view.boxes) for view in alone} <= {0, 1}
    counts = [len(view.boxes) for view in both]
    assert {1, 2} <= set(counts) <= {0, 1, 2}  # one where the second hides the first
    for view in both:
        assert all(bright(view, box) > 0.6 for box in view.boxes)


def test_copy_paste_knows_the_sources(prepared, tmp_path):
    with pytest.raises(InputError, match=r"--copy-paste: 'third' is no source"):
        run("--data", prepared, "--out", tmp_path, "--size", 64, "--copy-paste", "third=0.5")


@pytest.mark.parametrize("seed", range(8))
def test_grey_stays_grey_and_black_stays_black(seed):
    grey = np.random.default_rng(9).integers(0, 256, (64, 64, 1), np.uint8).repeat(3, axis=2)
    grey[:8] = 0
    changed = vary_intensity(grey, "brain MRI", np.random.default_rng(seed))
    assert np.array_equal(changed[..., 0], changed[..., 1])
    assert np.array_equal(changed[..., 0], changed[..., 2])
    assert changed[:5].max() == 0


def test_sequences_become_one_now_and_then():
    colour = np.random.default_rng(9).integers(1, 256, (32, 32, 3), np.uint8)
    copies = 0
    for seed in range(60):
        changed = vary_intensity(colour, "brain MRI", np.random.default_rng(seed))
        copies += np.array_equal(changed[..., 0], changed[..., 1])
    assert 15 < copies < 45


def test_empty_images_are_drawn_as_often_as_asked(prepared):
    split = PreparedSplit.read(prepared, "train")
    rng = np.random.default_rng(0)
    drawn = [split.draw(rng, 0.5) for _ in range(400)]
    first = [image for image in drawn if image.source == "first"]
    assert 150 < len(first) < 250
    assert 0.35 < np.mean([not len(image.boxes) for image in first]) < 0.65


def test_emphasis_draws_a_source_oftener(prepared):
    split = PreparedSplit.read(prepared, "train", {"second": 3.0})
    rng = np.random.default_rng(0)
    second = [split.draw(rng, 0.0).source == "second" for _ in range(400)]
    assert 0.68 < np.mean(second) < 0.82
    with pytest.raises(InputError, match=r"'third' is no source of .*; expected first, second"):
        PreparedSplit.read(prepared, "train", {"third": 1.0})


def test_average_precision_of_known_boxes(prepared):
    images = list(PreparedSplit.read(prepared, "val").images)
    perfect = [(image.boxes, np.ones(len(image.boxes), np.float32), image.class_index) for image in images]
    assert evaluate_boxes(images, perfect, ("dot", "blob"))["ap50_95"] == pytest.approx(1.0)
    none = [(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)) for _ in images]
    assert evaluate_boxes(images, none, ("dot", "blob"))["recall"] == 0.0
    wrong = [(boxes, scores, 1 - labels) for boxes, scores, labels in perfect]
    assert evaluate_boxes(images, wrong, ("dot", "blob"))["recall"] == 0.0


@pytest.mark.parametrize(
    ("warmup", "step", "expected"),
    [(10, 0, 0.1), (10, 9, 1.0), (10, 500, 0.51), (10, 1000, 0.02), (0, 0, 1.0)],
    ids=["start", "warm", "half", "end", "no warm-up"],
)
def test_learning_rate(warmup, step, expected):
    assert learning_rate(Budget(steps=1000, step=step), 1.0, warmup) == pytest.approx(expected, rel=0.02)
