"""INT8: what is quantized and what is not, what it costs, and what is refused."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import onnx
import onnxruntime
from PIL import Image

from eval.half import half_release
from hub import Release
from hub.release import write_manifest
from pipeline import AutoSegmenter
from pipeline.errors import InputError
from pipeline.geometry import Resize, box_iou
from pipeline.training import quantize
from pipeline.training import quantize_graph as quantize_graph_module
from pipeline.training.calibration import Calibration
from pipeline.training.export import store_half
from pipeline.training.noise import noise_feed
from pipeline.training.prepared import PreparedSplit
from pipeline.training.recipes import RECIPES, Recipe

pytestmark = pytest.mark.training

#: Without VNNI sums of u8 x s8 products saturate at 16 bits, which random weights reach and trained ones hardly.
_FLAGS = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
SATURATES = not any(flag in _FLAGS for flag in ("avx512_vnni", "avx_vnni", "amx_int8"))


def write_prepared(folder: Path, canvases: dict[str, list[np.ndarray]], regions: bool = True) -> Path:
    """A prepared folder's train split: {source: canvases}, each with one region if `regions`."""
    images, annotations = [], []
    for source, pixels in canvases.items():
        for number, canvas in enumerate(pixels):
            name = f"images/{source}_{number}.png"
            (folder / "images").mkdir(parents=True, exist_ok=True)
            Image.fromarray(canvas).save(folder / name)
            image = {"id": len(images) + 1, "file_name": name, "width": 640, "height": 640, "patient": str(number)}
            images.append(image | {"source": source, "modality": "ct", "content": [0, 0, 640, 640]})
            box = {"image_id": len(images), "category_id": 1, "bbox": [10, 10, 90, 90], "area": 8100, "iscrowd": 0}
            annotations.append(box | {"id": len(images), "segmentation": None})
    content = {"categories": [{"id": 1, "name": "lung"}], "images": images}
    content["annotations"] = annotations if regions else []
    (folder / "train.json").write_text(json.dumps(content), "utf-8")
    return folder


@pytest.fixture(scope="module")
def canvases(phantoms) -> list[np.ndarray]:
    return [Resize.plan(p.shape[1], p.shape[0], 640, "letterbox").image(p) for p in phantoms]


@pytest.fixture(scope="module")
def prepared(canvases, tmp_path_factory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("prepared"), {"a": canvases[:3], "b": canvases[3:]})


def arguments_of(*words: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    quantize.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


@pytest.fixture(scope="module")
def quantized(exported, prepared, tmp_path_factory) -> Release:
    folder = tmp_path_factory.mktemp("quantized") / "release"
    shutil.copytree(exported.folder, folder)
    words = ["--release", folder, "--calibration", prepared, "--images", 4]
    assert quantize.run(arguments_of(*words)) == 0
    return Release.open(folder)


def graph_of(release: Release, name: str) -> onnx.ModelProto:
    return onnx.load(release.file(f"onnx/int8/{name}.onnx"))


# --- what is quantized --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        # its 101 convolutions without the 3 that give box bins and the 3 that give class scores, and the 3 of DFL
        pytest.param("detector", 92, id="detector"),
        # query, key, value, output and the two of the MLP in 12 blocks, 3 where the channels change, 4 of the neck, and
        # the two products of activations a block
        pytest.param("image_encoder", 103, id="image_encoder"),
        # 4 layers of 7 attentions, the 2 of 2 MLPs, 2 that draw
        pytest.param("mask_decoder", 34, id="mask_decoder"),
    ],
)
def test_every_product_that_should_be_int8_is(quantized, name, nodes):
    assert quantize.count_quantized(graph_of(quantized, name)) == nodes


def test_box_regression_and_class_scores_stay_float(quantized):
    graph = graph_of(quantized, "detector").graph
    floats = [node.name for node in graph.node if node.op_type == "Conv"]
    assert len(floats) == 9
    assert all("_pred" in name or "/heads/Conv" in name for name in floats)


def test_weights_are_signed_a_channel_and_activations_unsigned(quantized):
    graph = graph_of(quantized, "detector").graph
    held = {weight.name: weight for weight in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "QLinearConv"]
    # the first one's weights hold the image's scale, computed when the graph is made, and are ranged as a whole
    for node in convolutions[1:]:
        _, _, zero, weight, scales, _, _, zero_out, *_ = node.input
        assert held[weight].data_type == onnx.TensorProto.INT8
        assert list(held[scales].dims) == [held[weight].dims[0]]
        assert {held[name].data_type for name in (zero, zero_out)} == {onnx.TensorProto.UINT8}
    products = [node for node in graph_of(quantized, "image_encoder").graph.node if node.op_type in DYNAMIC]
    held = {weight.name: weight for weight in graph_of(quantized, "image_encoder").graph.initializer}
    kinds = {held[node.input[1]].data_type for node in products if node.input[1] in held}
    assert kinds == {onnx.TensorProto.INT8}


#: Dynamic products as onnxruntime joins them; the weight is their second input.
DYNAMIC = ("DynamicQuantizeMatMul", "MatMulIntegerToFloat")


@pytest.mark.parametrize("name", ["detector", "image_encoder", "mask_decoder"])
def test_graphs_are_stored_as_onnxruntime_would_run_them(quantized, exported, prepared, name):
    """There is little left to join when they are opened, and they compute what the graph did before."""
    source = exported.file("onnx/fp32/image_encoder.onnx")
    images = quantize.pick_images(PreparedSplit.read(prepared, "train"), 4, prepared)
    plain = quantize.quantize_graph(
        name,
        exported.file(f"onnx/fp32/{name}.onnx"),
        Calibration(images, exported.config, source),
        RECIPES["int8"][name],
    )
    stored, path = graph_of(quantized, name), quantized.file(f"onnx/int8/{name}.onnx")
    assert len(stored.graph.node) < 0.9 * len(plain.graph.node)
    assert path.stat().st_size <= store_half(plain).ByteSize() + 1000
    before, after = (onnxruntime.InferenceSession(x.SerializeToString()) for x in (plain, stored))
    feed = noise_feed(before)
    for found, wanted in zip(after.run(None, feed), before.run(None, feed), strict=True):
        if name == "detector":
            np.testing.assert_array_equal(found, wanted)
        else:  # what stays float is stored as float16
            np.testing.assert_allclose(found, wanted, atol=0.02 * max(1, np.abs(wanted).max()))


def test_the_release_lists_both_precisions_and_is_small(quantized, exported):
    assert quantized.precisions == ("int8", "fp32")
    assert quantized.manifest["trained_on"] == exported.manifest["trained_on"]
    assert quantized.version == exported.version
    assert quantized.manifest["precisions"]["int8"]["bytes"] < 60e6
    assert quantized.manifest["precisions"]["fp32"] == exported.manifest["precisions"]["fp32"]


# --- what it costs ------------------------------------------------------------------------------------------------


def test_features_stay_close_to_float(quantized, phantoms):
    image = {"image": Resize.plan(256, 256, 512, "squash").image(phantoms[1])[None]}
    wanted, found = (
        onnxruntime.InferenceSession(quantized.file(f"onnx/{precision}/image_encoder.onnx")).run(None, image)
        for precision in ("fp32", "int8")
    )
    for a, b in zip(found, wanted, strict=True):
        assert np.linalg.norm(a - b) < (0.4 if SATURATES else 0.1) * np.linalg.norm(b)


def test_masks_stay_close_to_float(quantized, phantoms):
    boxes = np.float32([[40, 40, 200, 220], [60, 100, 120, 160]])
    wanted, found = (
        AutoSegmenter.from_release(quantized.folder, precision)(phantoms[1], boxes=boxes)
        for precision in ("fp32", "int8")
    )
    assert ((found.mask_logits > 0) == (wanted.mask_logits > 0)).mean() > (0.7 if SATURATES else 0.95)
    np.testing.assert_allclose(found.mask_ious, wanted.mask_ious, atol=0.3 if SATURATES else 0.05)


def anchors_of(path: Path, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What goes into the detector's non-maximum suppression: a box an anchor, and the logits of scores."""
    graph = onnx.load(path)
    suppression = next(node for node in graph.graph.node if node.op_type == "NonMaxSuppression")
    del graph.graph.output[:]
    for name in suppression.input[:2]:
        graph.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    boxes, scores = session.run(None, {"image": image[None]})
    scores = scores[0].astype(np.float64).clip(1e-6, 1 - 1e-6)
    return boxes[0], np.log(scores / (1 - scores))


def agreement(release: Release, image: np.ndarray) -> tuple[float, float]:
    """Correlation of int8's logits with fp32's, and the mean distance of the boxes' sides in pixels."""
    height, width = image.shape[:2]
    image = Resize.plan(width, height, release.config["detector"]["input_size"], "letterbox").image(image)
    graphs = (release.file(f"onnx/{precision}/detector.onnx") for precision in ("fp32", "int8"))
    wanted, found = (anchors_of(path, image) for path in graphs)
    return np.corrcoef(found[1].ravel(), wanted[1].ravel())[0, 1], np.abs(found[0] - wanted[0]).mean()


@pytest.mark.parametrize("number", range(5))
def test_the_released_detector_stays_close_to_float(release, canvases, number):
    correlation, distance = agreement(release, canvases[number])
    assert correlation > 0.9
    assert distance < 2.0


def test_a_random_detector_stays_near_float(quantized, canvases):
    """Random layers amplify what rounding changes, trained ones do not; unrelated outputs would correlate at 0."""
    assert agreement(quantized, canvases[0])[0] > 0.2


def test_half_precision_needs_no_images_and_stays_close(release, tmp_path, phantoms, capsys):
    """The released networks, as fp16's graphs are computed where there is no graphics card."""
    made = half_release(release, tmp_path / "half")
    boxes = np.float32([[40, 40, 200, 220], [60, 100, 120, 160]])
    both = [AutoSegmenter.from_release(one.folder, "fp32") for one in (release, made)]
    wanted, found = (segment(phantoms[1], boxes=boxes) for segment in both)
    np.testing.assert_allclose(found.mask_logits, wanted.mask_logits, atol=0.25)
    assert not np.array_equal(found.mask_logits, wanted.mask_logits)
    proposed = [segment.detector.propose(phantoms[0]) for segment in both]
    sure = int((proposed[0].scores > 0.5).sum())  # the edges of weaker ones may lie anywhere
    assert sure == 2
    np.testing.assert_allclose(proposed[1].scores[:sure], proposed[0].scores[:sure], atol=0.01)
    assert np.diag(box_iou(proposed[1].boxes[:sure], proposed[0].boxes[:sure])).min() > 0.98


def test_int8_without_images_to_calibrate_on_is_refused(exported):
    with pytest.raises(InputError, match=r"--calibration: not given; expected a prepared folder.*int8 needs"):
        quantize.run(arguments_of("--release", exported.folder))


# --- other recipes ------------------------------------------------------------------------------------------------

STATIC = Recipe("static", ("MatMul",), float_outputs=True)


@pytest.mark.parametrize(
    ("recipe", "nodes", "off"),
    [
        # as shipped, and the prompt's place
        pytest.param(Recipe("float"), 0, 1e-6, id="float"),
        pytest.param(STATIC, 35, 0.2, id="static"),
        pytest.param(Recipe("dynamic", ("MatMul",)), 35, 0.2, id="dynamic"),
        pytest.param(Recipe("dynamic", ("MatMul",), {"/mlp/": "a test"}), 31, 0.2, id="nodes that stay float"),
        pytest.param(Recipe("weights4"), 35, 0.6, id="4-bit weights"),
        # and the 9 of the small heads, with biases
        pytest.param(Recipe("half"), 44, 0.005, id="half precision"),
    ],
)
def test_recipes_of_the_decoder(exported, prepared, recipe, nodes, off):
    if recipe.mode == "weights4":
        pytest.importorskip("onnx_ir")
    source = exported.file("onnx/fp32/mask_decoder.onnx")
    images = quantize.pick_images(PreparedSplit.read(prepared, "train"), 2, prepared)
    calibration = Calibration(images, exported.config, exported.file("onnx/fp32/image_encoder.onnx"))
    graph = quantize.quantize_graph("mask_decoder", source, calibration, recipe)
    assert quantize.count_quantized(graph) == nodes
    feed = next(calibration.feeds("mask_decoder"))
    wanted = onnxruntime.InferenceSession(source).run(None, feed)[0]
    found = onnxruntime.InferenceSession(graph.SerializeToString()).run(None, feed)[0]
    assert np.linalg.norm(found - wanted) <= off * np.linalg.norm(wanted)


@pytest.mark.parametrize("ranges", ["min-max", "trimmed", "percentile", "entropy"])
def test_ranges_of_the_detector(release, prepared, canvases, ranges):
    """However ranges are read off, the released detector stays close to float."""
    images = quantize.pick_images(PreparedSplit.read(prepared, "train"), 4, prepared)
    recipe = replace(RECIPES["int8"]["detector"], ranges=ranges)
    source = release.file("onnx/fp32/detector.onnx")
    graph = quantize.quantize_graph("detector", source, Calibration(images, release.config), recipe)
    assert quantize.count_quantized(graph) == 92
    size = release.config["detector"]["input_size"]
    feed = {"image": Resize.plan(640, 640, size, "letterbox").image(canvases[0])[None]}
    wanted = onnxruntime.InferenceSession(source).run(None, feed)
    found = onnxruntime.InferenceSession(graph.SerializeToString()).run(None, feed)
    assert abs(len(found[1]) - len(wanted[1])) <= 0.5 * max(len(wanted[1]), 4)
    np.testing.assert_allclose(found[1][:1], wanted[1][:1], atol=0.15)


def test_trimmed_ranges_pass_over_one_image_that_reaches_far(release, prepared, tmp_path, canvases):
    from pipeline.training.quantize_graph import _ranges

    noise = np.random.default_rng(0).integers(0, 256, (640, 640, 3), np.uint8)
    folder = write_prepared(tmp_path / "noisy", {"a": [canvases[0]] * 30 + [noise]})
    split = PreparedSplit.read(folder, "train")
    path, found = release.file("onnx/fp32/detector.onnx"), {}
    plain = tmp_path / "plain.onnx"
    graph = onnx.load(path)
    quantize_graph_module.restore_float(graph)
    onnx.save(graph, plain)
    for ranges in ("min-max", "trimmed"):
        recipe = replace(RECIPES["int8"]["detector"], ranges=ranges)
        found[ranges] = _ranges("detector", plain, Calibration(split.images, release.config), recipe)
    alone = _ranges("detector", plain, Calibration(split.images[:1], release.config), RECIPES["int8"]["detector"])
    for name in alone:
        assert found["trimmed"][name].range_value == alone[name].range_value
    assert any(found["min-max"][name].range_value[1] > 1.2 * alone[name].range_value[1] for name in alone)


def test_a_recipe_that_leaves_nothing_is_refused(exported):
    source = exported.file("onnx/fp32/mask_decoder.onnx")
    recipe = Recipe("dynamic", ("MatMul",), keep_float={"": "a test"})
    with pytest.raises(InputError, match=r"mask_decoder.onnx: not one node could be quantized; expected"):
        quantize.quantize_graph("mask_decoder", source, Calibration((), exported.config), recipe)


@pytest.mark.parametrize("name", ["detector", "image_encoder", "mask_decoder"])
def test_recipes_that_need_images_say_so(exported, name):
    recipe, source = RECIPES["int8"][name], exported.file(f"onnx/fp32/{name}.onnx")
    assert recipe.needs_images
    with pytest.raises(InputError, match=rf"{name}.onnx: no image to calibrate it on; expected at least one prepared"):
        quantize.quantize_graph(name, source, Calibration((), exported.config, None), recipe)


@pytest.mark.parametrize("settings", [{"mode": "int2"}, {"mode": "static", "ranges": "guessed"}])
def test_recipes_check_themselves(settings):
    with pytest.raises(ValueError, match="expected of"):
        Recipe(**settings)


# --- which images -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "count", "picked"),
    [
        pytest.param((3, 2), 2, ["a_0", "b_0"], id="one each"),
        pytest.param((3, 2), 4, ["a_0", "b_0", "a_2", "b_1"], id="evenly spaced"),
        pytest.param((3, 2), 50, ["a_0", "b_0", "a_1", "b_1", "a_2"], id="all there are"),
        pytest.param((1, 3), 4, ["a_0", "b_0", "b_2"], id="a small source"),
    ],
)
def test_calibration_images_come_evenly_from_each_source(tmp_path, sizes, count, picked):
    blank = np.zeros((8, 8, 3), np.uint8)
    folder = write_prepared(tmp_path, {"a": [blank] * sizes[0], "b": [blank] * sizes[1]})
    images = quantize.pick_images(PreparedSplit.read(folder, "train"), count, folder / "train.json")
    assert [image.path.stem for image in images] == picked


# --- what is refused ----------------------------------------------------------------------------------------------


def with_graph(exported: Release, folder: Path, name: str, content: bytes) -> Path:
    """A copy of a release in which one graph is another, listed as if it belonged there."""
    shutil.copytree(exported.folder, folder)
    (folder / "onnx" / "fp32" / f"{name}.onnx").write_bytes(content)
    write_manifest(folder, version="0.0.1", revision="none", trained_on={})
    return folder


def foreign() -> bytes:
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> foreign (float[1, 4] image) => (float[1, 4] y) { y = Relu (image) }'
    )
    return onnx.parser.parse_model(text).SerializeToString()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("detector", lambda: b"", "detector.onnx: no usable ONNX graph (it is empty)", id="empty"),
        pytest.param("detector", lambda: b"no graph" * 99, "detector.onnx: no usable ONNX graph", id="text"),
        pytest.param("detector", foreign, "detector.onnx: not one node could be", id="foreign detector"),
        pytest.param("image_encoder", foreign, "image_encoder.onnx: not one node could be", id="foreign encoder"),
    ],
)
def test_graphs_that_are_refused(exported, prepared, tmp_path, name, content, message):
    folder = with_graph(exported, tmp_path / "release", name, content())
    with pytest.raises(InputError) as caught:
        quantize.quantize_release(folder, prepared, 1)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not (folder / "onnx" / "int8").exists()


@pytest.mark.parametrize(
    ("sources", "regions", "message"),
    [
        pytest.param({}, True, "train.json: no train image with a region to calibrate on", id="no image"),
        pytest.param({"a": 2}, False, "train.json: no train image with a region to calibrate on", id="no region"),
        pytest.param(None, True, "train.json: unreadable", id="no folder"),
    ],
)
def test_calibration_that_is_refused(exported, tmp_path, sources, regions, message):
    folder = tmp_path / "prepared"
    if sources is not None:
        folder.mkdir()
        blank = np.zeros((8, 8, 3), np.uint8)
        write_prepared(folder, {name: [blank] * count for name, count in sources.items()}, regions)
    with pytest.raises(InputError) as caught:
        quantize.quantize_release(exported.folder, folder)
    assert message in str(caught.value)


def test_a_broken_calibration_image_is_named(exported, tmp_path):
    release = tmp_path / "release"
    shutil.copytree(exported.folder, release)
    folder = write_prepared(tmp_path / "prepared", {"a": [np.zeros((8, 8, 3), np.uint8)]})
    (folder / "images" / "a_0.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"a_0\.png"):
        quantize.quantize_release(release, folder)


def test_no_image_at_all_is_refused(exported, prepared):
    with pytest.raises(InputError, match="--images: 0; expected 1 or more"):
        quantize.run(arguments_of("--release", exported.folder, "--calibration", prepared, "--images", 0))
