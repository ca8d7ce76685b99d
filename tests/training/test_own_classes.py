"""From a user's own classes to a release, really run: a detector of its own beside a given segmenter, then what is
trained on the features of both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hub import Release  # noqa: E402
from pipeline import AutoSegmenter, cli  # noqa: E402
from pipeline.geometry import box_iou  # noqa: E402
from pipeline.training.architectures import build_detector  # noqa: E402
from pipeline.training.export import list_files  # noqa: E402
from pipeline.training.feature_cache import Features, view_of  # noqa: E402
from pipeline.training.prepared import PreparedSplit  # noqa: E402
from pipeline.training.progress import read_weights, save_weights  # noqa: E402
from pipeline.training.scope import describe, distances, fit_scope  # noqa: E402
from pipeline.training.train_decoder import PromptSamples, throw  # noqa: E402
from tests.training.drawn import draw_prepared  # noqa: E402

pytestmark = [pytest.mark.training, pytest.mark.filterwarnings("ignore")]  # the networks' packages warn a lot


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    return draw_prepared(tmp_path_factory.mktemp("prepared"), images=8)


@pytest.fixture(scope="module")
def own(exported, prepared, tmp_path_factory) -> Release:
    """A two-class detector beside the segmenter of `exported`."""
    folder = tmp_path_factory.mktemp("own")
    torch.manual_seed(1)
    save_weights(build_detector(2).state_dict(), folder / "detector.safetensors")
    words = ("--detector", folder / "detector.safetensors", "--base", exported.folder, "--classes-of", prepared)
    assert run("export", *words, "--out", folder / "release", "--no-training-weights") == 0
    return Release.open(folder / "release")


@pytest.fixture(scope="module")
def features(own, prepared, tmp_path_factory) -> Features:
    folder = tmp_path_factory.mktemp("features")
    words = ("--release", own.folder, "--data", prepared, "--out", folder, "--precision", "fp32")
    assert run("features", *words, "--views", 26, "--val-images", 3, "--empty-share", 0.1) == 0
    return Features.open(folder)


def test_a_release_of_own_classes_keeps_the_segmenter(own, exported):
    assert own.config["classes"] == [{"id": 1, "name": "dot"}, {"id": 2, "name": "blob"}]
    assert (own.config["detector"]["class_thresholds"], own.config["slicing"]) == ({}, {})
    for name in ("image_encoder", "mask_decoder"):
        path = f"onnx/fp32/{name}.onnx"
        assert own.manifest["files"][path] == exported.manifest["files"][path]
    assert own.manifest["files"]["onnx/fp32/detector.onnx"] != exported.manifest["files"]["onnx/fp32/detector.onnx"]
    found = AutoSegmenter.from_release(own.folder, "fp32")(np.zeros((64, 80, 3), np.uint8), boxes=[[10, 10, 40, 50]])
    assert (found.labels, found.out_of_scope) == (("region",), None)


def test_features_hold_what_the_networks_give(features, own, prepared):
    assert (features.classes, features.size) == (("dot", "blob"), 512)
    val = features.split("val")
    split = PreparedSplit.read(prepared, "val")
    segment = AutoSegmenter.from_release(own.folder, "fp32")
    for number in range(len(val)):
        image = split.images[val.image[number]]
        view = view_of(image, None)
        np.testing.assert_array_equal(view.pixels, image.pixels())  # drawn images fill their canvas
        wanted = segment.segmenter.embed(view.pixels).features
        for name, feature in zip(("embedding", "high_res_0", "high_res_1"), wanted, strict=True):
            np.testing.assert_allclose(getattr(val, name)[number], feature[0], rtol=2e-3, atol=2e-3)
        assert val.counts[number, 1] == len(image.boxes)
        for row, box in zip(val.regions[number], image.boxes, strict=False):
            assert box_iou(row[None, :4], box[None] * (512 / 640))[0, 0] > 0.97
        area = (val.masks[number] / 255).sum() * 16 / 512**2
        assert area == pytest.approx(sum(image.mask(i).mean() for i in range(len(image.boxes))), abs=0.003)


def test_features_of_a_release_that_looks_at_surroundings(own, prepared, tmp_path):
    """A region fills more of its view, its mask lies in its box, and what is out of sight is no region."""
    import shutil

    folder = tmp_path / "release"
    shutil.copytree(own.folder, folder)
    config = own.config | {"segmenter": own.config["segmenter"] | {"surroundings": 2.0}}
    (folder / "config.json").write_text(json.dumps(config))
    list_files(folder, version="0.0.1", trained_on={})
    words = ("--release", folder, "--data", prepared, "--out", tmp_path / "f", "--precision", "fp32")
    assert run("features", *words, "--views", 20, "--val-images", 3, "--empty-share", 0) == 0
    for name in ("train", "val"):
        cache = Features.open(tmp_path / "f").split(name)
        longest = []
        for regions, masks, (_, count) in zip(cache.regions, cache.masks, cache.counts, strict=True):
            for row, mask in zip(regions[:count], masks[:count], strict=True):
                rows, columns = np.nonzero(mask > 64)
                found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * 4.0
                assert box_iou(found[None], row[None, :4])[0, 0] > 0.7
            if count:
                sides = regions[:count, 2:4].max(0) - regions[:count, :2].min(0)
                longest.append(sides.max() / 512)
        assert np.median(longest) > 0.4
    whole = AutoSegmenter.from_release(own.folder, "fp32")
    near = AutoSegmenter.from_release(folder, "fp32")
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    assert whole(image, boxes=[[50, 60, 80, 100]]).resize.window == (0, 0, 300, 200)
    found = near(image, boxes=[[50, 60, 80, 100]])
    assert found.resize.window == (25, 40, 105, 120)
    outside = found.mask(0).copy()
    outside[40:120, 25:105] = False
    assert found.mask(0).shape == (200, 300) and not outside.any()


def test_features_are_repeatable_and_resume(features, own, prepared, tmp_path):
    words = ("--release", own.folder, "--data", prepared, "--precision", "fp32", "--out", tmp_path)
    words += ("--views", 26, "--val-images", 3, "--empty-share", 0.1)
    folder = tmp_path / "train"
    assert run("features", *words) == 0
    (folder / "done.txt").write_text("22")
    np.lib.format.open_memmap(folder / "embedding.npy", "r+")[22:] = 0
    assert run("features", *words) == 0
    again, first = Features.open(tmp_path).split("train"), features.split("train")
    for name in ("image", "proposals", "regions", "masks", "embedding"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))


def test_prompts_are_true_boxes_thrown_off_and_false_ones(features):
    samples = iter(PromptSamples(features, 2, seed=0))
    reals = []
    for _ in range(60):
        *maps, boxes, truth, real = next(samples)
        assert [part.shape for part in maps] == [(256, 32, 32), (32, 128, 128), (64, 64, 64)]
        assert (boxes.shape, truth.shape) == ((len(real), 4), (len(real), 128, 128))
        for box, mask, of_object in zip(boxes, truth, real, strict=True):
            assert mask.any() == of_object
            if of_object:
                rows, columns = np.nonzero(mask > 0.5)
                true = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * 4.0
                assert box_iou(box[None], true[None])[0, 0] > 0.3
        reals += list(real)
    assert 0 < np.mean(reals) < 1
    moved = throw(np.array([[100, 100, 200, 300]] * 4000, np.float32), np.random.default_rng(0), 0.1)
    assert moved.std(0) == pytest.approx([10, 20, 10, 20], rel=0.1)


def test_the_decoder_learns_alone(features, random_weights, tmp_path):
    words = ("--data", features.folder, "--init", random_weights["segmenter"], "--out", tmp_path)
    assert (
        run("train", "decoder", *words, "--epochs", 3, "--samples", 24, "--batch", 4, "--warmup", 2, "--lr", 1e-3) == 0
    )
    before, after = read_weights(random_weights["segmenter"]), read_weights(tmp_path / "segmenter.safetensors")
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed <= {"sam_prompt_encoder", "sam_mask_decoder"} and changed
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert all(0 <= log[-1][name] <= 1 for name in ("dice_true", "dice_thrown", "dice_clicked"))
    assert run("train", "decoder", "--data", features.folder, "--out", tmp_path / "other") == 2


def test_scope_tells_strange_images_apart(features, own, tmp_path):
    rows, kinds = describe(features.split("train"))
    fitted = fit_scope(rows, np.zeros_like(kinds))
    known = distances(rows, *fitted)
    assert np.median(known) == pytest.approx(1, rel=1e-6)
    assert distances(rows + 5 * rows.std(0), *fitted).min() > known.max()


def test_scope_becomes_part_of_a_release(features, own, tmp_path, monkeypatch, capsys):
    import shutil

    from pipeline.training import scope

    monkeypatch.setattr(scope, "_LEAST_VIEWS", 5)
    shutil.copytree(own.folder, tmp_path / "release")
    assert run("scope", "--release", tmp_path / "release", "--features", features.folder) == 0
    assert "out of scope" in capsys.readouterr().out
    release = Release.open(tmp_path / "release")
    segment = AutoSegmenter.from_release(release.folder, "fp32")
    val = features.split("val")
    fitted = fit_scope(*describe(features.split("train")))
    wanted = distances(describe(val)[0], *fitted)
    assert segment.scope.limit == pytest.approx(np.quantile(wanted, scope.KNOWN), abs=1e-3)
    assert [segment.class_names[kind] for kind in segment.scope.kinds] == list(features.classes)
    assert segment.scope.ratio == scope.RATIO
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    found = segment(noise)
    assert found.out_of_scope is True and found.to_json("a.png")["out_of_scope"] is True


def test_features_of_other_classes_are_refused(exported, prepared, tmp_path, capsys):
    words = ("--release", exported.folder, "--data", prepared, "--out", tmp_path / "f", "--precision", "fp32")
    assert run("features", *words) == 2
    assert "the classes dot, blob; expected brain_tumor" in capsys.readouterr().err
    assert not (tmp_path / "f").exists()
    assert run("scope", "--release", exported.folder, "--features", tmp_path) == 2
    assert "python -m pipeline features" in capsys.readouterr().err
