"""What one way to quantize one graph costs: judged on drawn heads with the shipped weights."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch")

from PIL import Image
from pycocotools import mask as coco_mask

from eval.__main__ import main
from eval.sensitivity import Parts, Question, ask, judge
from eval.variants import GROUPS, VARIANTS, Variant
from pipeline.geometry import box_of_mask
from pipeline.results import Detections
from pipeline.training.recipes import RECIPES, Recipe

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Two fetal heads on canvases of 640 pixels, in train and in val."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:640, :640]
    images, annotations = [], []
    for number, radius in enumerate((120, 160), 1):
        squared = (rows - 320) ** 2 / 0.6 + (columns - 320) ** 2
        ring = (squared < radius**2) & (squared > (radius - 14) ** 2)
        pixels = (rng.integers(0, 40, (640, 640)) + 150 * ring).astype(np.uint8)
        pixels[:100] = pixels[540:] = 0
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        image = {"id": number, "file_name": f"images/{number}.png", "width": 640, "height": 640, "patient": str(number)}
        images.append(image | {"source": "hc18", "modality": "ultrasound", "content": [0, 100, 640, 540]})
        rle = coco_mask.encode(np.asfortranarray((squared < radius**2).astype(np.uint8)))
        box = coco_mask.toBbox(rle).tolist()
        rle = {"size": rle["size"], "counts": rle["counts"].decode()}
        annotation = {"id": number, "image_id": number, "category_id": 1, "bbox": box, "area": 1, "iscrowd": 0}
        annotations.append(annotation | {"segmentation": rle})
    content = {"categories": [{"id": 1, "name": "fetal_head"}], "images": images, "annotations": annotations}
    for split in ("train", "val"):
        (folder / f"{split}.json").write_text(json.dumps(content), "utf-8")
    return folder


def _one(box: np.ndarray, class_id: int) -> Detections:
    return Detections(box[None], np.ones(1, np.float32), np.array([class_id]))


def test_a_float_variant_costs_nothing(release, prepared):
    questions = ask(release, prepared, 2, None)
    assert questions[0].truth.shape == (440, 640)
    found = judge(Variant("mask_decoder", "float", Recipe("float")), questions, Parts.open(release, None))
    assert (found["gain"], found["agreement"]) == (0.0, 1.0)
    assert found["sources"] == {"hc18": 0.0}


def test_a_broken_graph_shows(release, prepared, tmp_path, monkeypatch):
    """An encoder whose every block is given the opposite: agreement falls, about boxes that no detector has to find."""
    import onnx

    from pipeline.training.export import restore_float

    graph = onnx.load(release.file("onnx/fp32/image_encoder.onnx"))
    restore_float(graph)
    for weight in graph.graph.initializer:
        if weight.name.endswith(".norm1.weight"):
            weight.CopyFrom(onnx.numpy_helper.from_array(-8 * onnx.numpy_helper.to_array(weight), weight.name))
    path = tmp_path / "broken.onnx"
    onnx.save(graph, path)
    head = release.config["classes"][5]["id"]
    monkeypatch.setattr(Question, "find", lambda asked, _: _one(box_of_mask(asked.truth), head))
    questions = ask(release, prepared, 2, None)
    assert all(question.union.any() for question in questions)
    found = judge(VARIANTS["encoder"], questions, Parts.open(release, None, image_encoder=path))
    assert found["agreement"] < 0.99


def test_the_command(release, prepared, tmp_path, capsys):
    words = ["sensitivity", "--weights", str(release.folder), "--prepared", str(prepared), "--out", str(tmp_path)]
    words += ["--variants", "decoder/static", "--images", "2", "--rounds", "1"]
    assert main(words) == 0
    results = json.loads((tmp_path / "sensitivity.json").read_text("utf-8"))
    assert set(results["variants"]) == {"decoder/static"}
    assert results["variants"]["decoder/static"]["bytes"] < release.file("onnx/fp32/mask_decoder.onnx").stat().st_size
    assert set(results["times"]) == {"decoder/static", "mask_decoder/fp32"}
    with Image.open(tmp_path / "sensitivity.png") as plot:
        assert plot.width > 300
    assert "| static inputs |" in (tmp_path / "sensitivity.md").read_text("utf-8")
    before = (tmp_path / "graphs" / "decoder_static.onnx").stat().st_mtime_ns
    assert main(words) == 0  # nothing is made twice
    assert (tmp_path / "graphs" / "decoder_static.onnx").stat().st_mtime_ns == before
    assert main([*words, "--images", "1"]) == 2
    assert "figures of other weights or images" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in VARIANTS if "/without " in name])
def test_groups_hold_nodes_of_the_graph(release, name):
    import onnx

    variant = VARIANTS[name]
    nodes = [node.name for node in onnx.load(release.file(f"onnx/fp32/{variant.graph}.onnx")).graph.node]
    shipped = RECIPES["int8"][variant.graph]
    more = set(variant.recipe.floats(nodes)) - set(shipped.floats(nodes))
    assert more
    assert len(GROUPS[variant.graph]) >= 9


@pytest.mark.parametrize("graph", ["detector", "image_encoder", "mask_decoder"])
def test_every_float_node_that_a_recipe_names_is_there(release, graph):
    import onnx

    nodes = [node.name for node in onnx.load(release.file(f"onnx/fp32/{graph}.onnx")).graph.node]
    for precision, recipes in RECIPES.items():
        assert set(recipes) == {"detector", "image_encoder", "mask_decoder", "memory_attention", "memory_encoder"}
        for pattern, why in recipes[graph].keep_float.items():
            assert Recipe("dynamic", keep_float={pattern: why}).floats(nodes), (precision, pattern)
            assert why
