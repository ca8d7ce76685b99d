"""The exported graphs against the networks that they come from, and what a release folder holds."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import onnx
import onnx.numpy_helper
import onnxruntime
import torch

from hub import Release
from pipeline import AutoSegmenter
from pipeline.errors import InputError
from pipeline.geometry import Resize, box_iou
from pipeline.scan import read_scan
from pipeline.training import export
from pipeline.training.architectures import build_detector, build_segmenter
from pipeline.training.channel_levels import even_channels
from pipeline.training.config import RELEASE_CONFIG
from pipeline.training.graphs import MEAN, STD
from pipeline.training.progress import load_weights, read_weights

pytestmark = pytest.mark.training

DATA = os.environ.get("AUTOMEDSEG_DATA")
BOXES = np.float32([[60, 70, 300, 400], [200, 180, 260, 300], [0, 0, 512, 512]])
LABELS = np.array([[2, 3]] * 3, np.int64)
FEATURES = ("embedding", "high_res_0", "high_res_1")


class Pair:
    """Both networks in torch, as their packages compute, and their graphs in onnxruntime."""

    def __init__(self, detector_weights: Path, segmenter_weights: Path):
        self.detector, self.segmenter = build_detector(7).eval(), build_segmenter().eval()
        load_weights(self.detector, detector_weights)
        load_weights(self.segmenter, segmenter_weights)
        self.segmenter.pred_obj_scores = False  # hides no mask, as the graph hides none
        fused = build_detector(7)
        load_weights(fused, detector_weights)
        self.graphs = {
            "detector": export.detector_onnx(fused, 640),
            "image_encoder": export.encoder_onnx(self.segmenter),
            "mask_decoder": export.decoder_onnx(self.segmenter),
        }
        self.sessions = {name: session_of(graph) for name, graph in self.graphs.items()}

    @torch.no_grad()
    def torch_boxes(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All anchors' boxes (A, 4) and scores (A, 7) of a uint8 (640, 640, 3) image."""
        boxes, scores = self.detector(even_channels(torch.from_numpy(image)[None].permute(0, 3, 1, 2)))[0]
        return boxes[0].numpy(), scores[0].numpy()

    @torch.no_grad()
    def torch_features(self, image: np.ndarray) -> list[np.ndarray]:
        """SAM2's own features of a uint8 (512, 512, 3) image, as its image predictor hands them to the decoder."""
        mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (MEAN, STD))
        pixels = (torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std
        fine, middle, coarse = self.segmenter.forward_image(pixels[None])["backbone_fpn"]
        return [part.numpy() for part in (coarse + self.segmenter.no_mem_embed.view(1, -1, 1, 1), fine, middle)]

    @torch.no_grad()
    def torch_masks(self, features: list[np.ndarray], coords: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
        """SAM2's own mask logits (N, 128, 128), IoU (N,) and object score (N,)."""
        embedding, *high_res = (torch.from_numpy(part).expand(len(coords), -1, -1, -1) for part in features)
        prompts = {"point_coords": torch.from_numpy(coords), "point_labels": torch.from_numpy(labels).int()}
        found = self.segmenter._forward_sam_heads(embedding, prompts, high_res_features=high_res)
        return [found[0][:, 0].numpy(), found[2][:, 0].numpy(), found[6][:, 0].numpy()]

    def features(self, image: np.ndarray) -> list[np.ndarray]:
        return self.sessions["image_encoder"].run(None, {"image": image[None]})

    def masks(self, features: list[np.ndarray], coords: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
        """Logits, IoUs, object scores; the fourth output, the mask token, is the memory's."""
        given = dict(zip(FEATURES, features, strict=True)) | {"point_coords": coords, "point_labels": labels}
        return self.sessions["mask_decoder"].run(["mask_logits", "iou", "object_score"], given)


def session_of(graph: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def squash(pixels: np.ndarray) -> np.ndarray:
    return Resize.plan(pixels.shape[1], pixels.shape[0], 512, "squash").image(pixels)


def letterbox(pixels: np.ndarray) -> np.ndarray:
    return Resize.plan(pixels.shape[1], pixels.shape[0], 640, "letterbox").image(pixels)


def suppress(boxes: np.ndarray, scores: np.ndarray, iou: float, floor: float) -> list[tuple[int, int]]:
    """(anchor, class) pairs that class-wise non-maximum suppression keeps, surest first; each anchor has one class.

    At most 100 a class, as in the graph.
    """
    best = scores.argmax(1)
    kept: list[tuple[int, int]] = []
    for anchor in np.argsort(-scores.max(1), kind="stable"):
        if scores[anchor].max() <= floor:
            break
        rivals = [other for other, its_class in kept if its_class == best[anchor]]
        if len(rivals) < 100 and (not rivals or box_iou(boxes[[anchor]], boxes[rivals]).max() <= iou):
            kept.append((int(anchor), int(best[anchor])))
    return kept


def voted(boxes: np.ndarray, scores: np.ndarray, kept: list[tuple[int, int]]) -> np.ndarray:
    """The kept boxes (N, 4), each the mean of all that overlap it by 0.8, weighted by its class's scores."""
    means = []
    for anchor, label in kept:
        same = box_iou(boxes[[anchor]], boxes)[0] >= export.SAME_IOU
        means.append(np.average(boxes[same], axis=0, weights=scores[same, label]))
    return np.array(means, np.float32).reshape(-1, 4)


def assert_boxes_agree(pair: Pair, pixels: np.ndarray) -> int:
    image = letterbox(pixels)
    boxes, scores = pair.torch_boxes(image)
    kept = suppress(boxes, scores, export.NMS_IOU, export.SCORE_FLOOR)
    found_boxes, found_scores, found_classes = pair.sessions["detector"].run(None, {"image": image[None]})
    anchors, classes = np.array(kept, int).reshape(-1, 2).T
    wanted = voted(boxes, scores, kept)
    assert len(found_boxes) == len(kept)
    assert (np.diff(found_scores) <= 0).all()
    if kept:  # two boxes whose scores are alike to the last bits may have changed places
        alike = box_iou(wanted, found_boxes) * (classes[:, None] == found_classes)
        order = alike.argmax(1)
        assert sorted(order) == list(range(len(kept)))
        np.testing.assert_allclose(found_scores[order], scores[anchors, classes], atol=1e-3)
        np.testing.assert_allclose(found_boxes[order], wanted, rtol=1e-3, atol=0.05)
    return len(kept)


def assert_masks_agree(pair: Pair, pixels: np.ndarray) -> None:
    image = squash(pixels)
    wanted, found = pair.torch_features(image), pair.features(image)
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        assert relative_error(a, b) < 1e-3
    coords = BOXES.reshape(-1, 2, 2)
    wanted, found = pair.torch_masks(wanted, coords, LABELS), pair.masks(found, coords, LABELS)
    assert ((found[0] > 0) == (wanted[0] > 0)).mean() >= 0.999
    np.testing.assert_allclose(found[1], wanted[1], atol=1e-3)
    np.testing.assert_allclose(found[2], wanted[2], atol=1e-3 * max(1.0, np.abs(wanted[2]).max()))


# --- the graphs against torch -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(random_weights) -> Pair:
    return Pair(random_weights["detector"], random_weights["segmenter"])


@pytest.mark.parametrize("number", range(5))
def test_detector_agrees_with_torch(pair, phantoms, number):
    assert assert_boxes_agree(pair, phantoms[number]) > 3


@pytest.mark.parametrize("number", range(5))
def test_segmenter_agrees_with_torch(pair, phantoms, number):
    assert_masks_agree(pair, phantoms[number])


REAL = [
    *("busi_breast_us_148/images/malignant_001.jpg", "cxr_lungs_montgomery_shenzhen/images/CHNCXR_0230_0.jpg"),
    *("hc18_fetal_head/images/746_4HC.jpg", "kvasir_seg_polyp/images/cju32a52lb9rc0799xi40qs00.jpg"),
    "lgg_mri_tcga/images/TCGA_HT_8105_19980826/018.jpg",
]


@pytest.fixture(scope="module")
def released_pair(release, pair) -> Pair:
    """The released weights, where the release carries what they were exported from; else the random ones."""
    names = [f"training/{name}.safetensors" for name in ("detector", "segmenter")]
    if not set(names) <= release.manifest["files"].keys():
        return pair
    return Pair(*map(release.file, names))


@pytest.mark.data
@pytest.mark.skipif(not DATA, reason="AUTOMEDSEG_DATA is not set")
@pytest.mark.parametrize("file", REAL, ids=lambda file: file.split("/")[0])
def test_real_images_agree_with_torch(released_pair, file):
    pixels = read_scan(Path(DATA, file)).pixels
    assert_boxes_agree(released_pair, pixels)
    assert_masks_agree(released_pair, pixels)


@pytest.mark.parametrize(
    ("coords", "labels"),
    [
        pytest.param([[[100, 120]]], [[1]], id="one click"),
        pytest.param([[[100, 120], [30, 40], [400, 500]]], [[1, 0, 1]], id="clicks inside and outside"),
        pytest.param([[[10, 20], [300, 310], [50, 60]]] * 2, [[2, 3, 0], [2, 3, -1]], id="a box with a click, one not"),
        pytest.param([[[i, 2 * i], [300 + i, 350]] for i in range(20)], [[2, 3]] * 20, id="twenty boxes"),
    ],
)
def test_every_kind_of_prompt_agrees_with_torch(pair, phantoms, coords, labels):
    features = pair.torch_features(squash(phantoms[1]))
    prompts = np.array(coords, np.float32), np.array(labels, np.int64)
    wanted, found = pair.torch_masks(features, *prompts), pair.masks(features, *prompts)
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, atol=1e-3 * np.abs(b).max())


def test_an_untrained_object_score_hides_no_mask(pair, phantoms):
    """SAM2 sets masks of a low score to -1024; the graph leaves that to whoever trusts the score."""
    features = pair.torch_features(squash(phantoms[0]))
    mask_logits, _, _ = pair.masks(features, BOXES.reshape(-1, 2, 2), LABELS)
    assert np.abs(mask_logits).max() < 500


def test_nothing_above_the_floor_gives_no_box(random_weights):
    detector = build_detector(7)
    load_weights(detector, random_weights["detector"])
    with torch.no_grad():
        for head in (detector.heads.head1, detector.heads.head2, detector.heads.head3):
            head.cls_pred.bias.fill_(-30)
    session = session_of(export.detector_onnx(detector, 640))
    boxes, scores, class_index = session.run(None, {"image": np.zeros((1, 640, 640, 3), np.uint8)})
    assert (boxes.shape, scores.shape, class_index.shape) == ((0, 4), (0,), (0,))


# --- the form of the graphs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", export.GRAPHS)
def test_weights_reach_their_products_directly(pair, name):
    """The dynamic quantizer silently passes over a weight that is transposed in the graph."""
    graph = pair.graphs[name].graph
    weights = {weight.name for weight in graph.initializer}
    assert not [node.name for node in graph.node if node.op_type == "Transpose" and node.input[0] in weights]
    assert pair.graphs[name].opset_import[0].version >= 17


IMAGE = ("image", "tensor(uint8)")
INTERFACES = {
    "detector": (
        [(*IMAGE, [1, 640, 640, 3])],
        [("boxes", "tensor(float)"), ("scores", "tensor(float)"), ("class_index", "tensor(int64)")],
    ),
    "image_encoder": ([(*IMAGE, [1, 512, 512, 3])], [(name, "tensor(float)") for name in FEATURES]),
    "mask_decoder": (
        [
            ("embedding", "tensor(float)", [1, 256, 32, 32]),
            ("high_res_0", "tensor(float)", [1, 32, 128, 128]),
            ("high_res_1", "tensor(float)", [1, 64, 64, 64]),
            ("point_coords", "tensor(float)", ["N", "P", 2]),
            ("point_labels", "tensor(int64)", ["N", "P"]),
        ],
        [(name, "tensor(float)") for name in ("mask_logits", "iou", "object_score", "mask_token")],
    ),
}


@pytest.mark.parametrize("name", export.GRAPHS)
def test_inputs_and_outputs_are_the_documented_ones(pair, name):
    session = pair.sessions[name]
    found = (
        [(given.name, given.type, given.shape) for given in session.get_inputs()],
        [(given.name, given.type) for given in session.get_outputs()],
    )
    assert found == INTERFACES[name]


# --- float16 on the disk ------------------------------------------------------------------------------------------


def product(weight: np.ndarray) -> onnx.ModelProto:
    graph = "product (float[1, 64] x) => (float[1, 64] y) { y = MatMul (x, w) }"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {graph}')
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    return model


@pytest.mark.parametrize(
    ("weight", "halved"),
    [
        pytest.param(np.full((64, 64), 0.1, np.float32), True, id="matrix"),
        pytest.param(np.full((64, 64), 7e4, np.float32), False, id="beyond float16's range"),
        pytest.param(np.full((64, 64), 0.1, np.float64), False, id="double"),
        pytest.param(np.full(4096, 0.1, np.float32), False, id="vector"),
        pytest.param(np.full((8, 8), 0.1, np.float32), False, id="small"),
    ],
)
def test_large_matrices_are_stored_as_float16(weight, halved):
    model = product(weight)
    stored = export.store_half(model)
    assert [node.op_type for node in stored.graph.node] == (["Cast", "MatMul"] if halved else ["MatMul"])
    assert model.graph.initializer[0].data_type == onnx.helper.np_dtype_to_tensor_dtype(weight.dtype)  # left alone
    (held,) = (onnx.numpy_helper.to_array(given) for given in stored.graph.initializer)
    assert held.dtype == (np.float16 if halved else weight.dtype)
    np.testing.assert_array_equal(held, weight.astype(held.dtype))


def test_float16_is_undone_up_to_its_rounding():
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    stored = export.store_half(product(weight))
    export.restore_float(stored)
    assert [node.op_type for node in stored.graph.node] == ["MatMul"]
    (held,) = stored.graph.initializer
    assert held.name == "w"
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(held), weight.astype(np.float16).astype(np.float32))


def test_stored_graphs_compute_nearly_the_same(pair, exported, phantoms):
    """What float16 storage costs, measured."""
    image = squash(phantoms[1])[None]
    session = onnxruntime.InferenceSession(exported.file("onnx/fp32/image_encoder.onnx"))
    for found, wanted in zip(session.run(None, {"image": image}), pair.features(image[0]), strict=True):
        assert relative_error(found, wanted) < 5e-3


# --- the release folder -------------------------------------------------------------------------------------------


def test_an_exported_release_is_complete(exported, random_weights):
    graphs = [f"onnx/fp32/{name}.onnx" for name in export.GRAPHS]
    weights = [f"training/{name}.safetensors" for name in ("detector", "segmenter")]
    assert sorted(exported.manifest["files"]) == sorted(["config.json", *graphs, *weights])
    assert exported.precisions == ("fp32",)
    assert exported.config == RELEASE_CONFIG
    assert exported.manifest["trained_on"] == {"sources": {"none": {"images": 0}}}
    assert exported.manifest["precisions"]["fp32"]["note"] == "Stored as float16, computed in float32."
    for name in ("detector", "segmenter"):
        held, given = read_weights(exported.file(f"training/{name}.safetensors")), read_weights(random_weights[name])
        assert list(held) == list(given)
        for key, value in given.items():
            torch.testing.assert_close(held[key], value.half().float() if value.is_floating_point() else value)


def test_an_exported_release_runs(exported, phantoms):
    found = AutoSegmenter.from_release(exported.folder, "fp32")(phantoms[0], min_score=0.1)
    assert 0 < len(found) <= 20
    assert set(found.labels) <= {entry["name"] for entry in RELEASE_CONFIG["classes"]}
    assert np.isfinite(found.mask_logits).all()


def arguments_of(*words: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    export.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_a_release_is_exported_anew_from_its_own_weights(exported, tmp_path, capsys):
    """Other thresholds, same weights; graphs of other precisions would be of other weights, so they go."""
    folder = tmp_path / "release"
    shutil.copytree(exported.folder, folder)
    stale = folder / "onnx" / "int8" / "detector.onnx"
    stale.parent.mkdir()
    stale.write_bytes(b"of other weights")
    config = RELEASE_CONFIG | {"detector": RELEASE_CONFIG["detector"] | {"score_threshold": 0.5}}
    (tmp_path / "own.json").write_text(json.dumps(config), "utf-8")
    (tmp_path / "trained_on.json").write_text('{"detector": "by hand"}', "utf-8")
    words = ["--out", folder, "--version", "0.0.2"]
    words += ["--config", tmp_path / "own.json", "--trained-on", tmp_path / "trained_on.json"]
    assert export.run(arguments_of(*words)) == 0
    release = Release.open(folder)
    assert "training/detector.safetensors" in release.manifest["files"]
    assert (release.version, release.precisions) == ("0.0.2", ("fp32",))
    assert release.config["detector"]["score_threshold"] == 0.5
    assert release.manifest["trained_on"] == {"detector": "by hand"}
    assert not stale.exists()
    assert "python -m pipeline quantize" in capsys.readouterr().out


def other_classes(path: Path) -> Path:
    path.write_text(json.dumps(RELEASE_CONFIG | {"classes": [{"id": 1, "name": "lung"}], "slicing": {}}), "utf-8")
    config = json.loads(path.read_text("utf-8"))
    config["detector"]["class_thresholds"] = {}
    path.write_text(json.dumps(config), "utf-8")
    return path


def broken(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda w, d: {"detector": d / "none.safetensors"}, "none.safetensors: no such file", id="missing"),
        pytest.param(
            lambda w, d: {"detector": broken(d / "a.safetensors", b"zzz")}, "a.safetensors: unreadable", id="damaged"
        ),
        pytest.param(
            lambda w, d: {"detector": w["segmenter"]}, "segmenter.safetensors: no YOLO-NAS class head", id="swap"
        ),
        pytest.param(
            lambda w, d: {"segmenter": w["detector"]}, "detector.safetensors: not these weights", id="swapped"
        ),
        pytest.param(
            lambda w, d: {"config": other_classes(d / "c.json")}, "7 classes; expected 1, as in", id="classes"
        ),
        pytest.param(lambda w, d: {"config": d / "none.json"}, "none.json: unreadable", id="no config"),
        pytest.param(lambda w, d: {"config": broken(d / "c.json", b"{}")}, "c.json: schema None", id="empty config"),
        pytest.param(lambda w, d: {"config": broken(d / "c.json", b"[")}, "c.json: unreadable", id="broken config"),
        pytest.param(lambda w, d: {"config": broken(d / "c.json", b"[]")}, "c.json: a JSON list", id="config list"),
        pytest.param(lambda w, d: {"trained-on": broken(d / "t.json", b"7")}, "t.json: a JSON int", id="trained-on"),
        pytest.param(lambda w, d: {"nms-iou": 0}, "--nms-iou: 0.0; expected more than 0", id="iou"),
    ],
)
def test_what_is_refused_leaves_no_release(random_weights, tmp_path, change, message):
    options = {**random_weights, "out": tmp_path / "release", **change(random_weights, tmp_path)}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    with pytest.raises(InputError) as caught:
        export.run(arguments_of(*words))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "release").exists()
