"""Changes of the float graph: what they compute stays, and what they are for is reached."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import onnx
import onnxruntime

from pipeline.geometry import Resize
from pipeline.training import float_changes
from pipeline.training.calibration import channel_statistics
from pipeline.training.export import restore_float
from pipeline.training.linear_layers import Weights, linear_layers

pytestmark = pytest.mark.training


class Given:
    """Calibration with one image."""

    def __init__(self, image: np.ndarray):
        self.image = image

    def feeds(self, _: str):
        yield {"image": self.image}


@pytest.fixture(scope="module")
def given(phantoms) -> Given:
    return Given(Resize.plan(256, 256, 512, "squash").image(phantoms[1])[None])


@pytest.fixture()
def encoder(exported) -> onnx.ModelProto:
    model = onnx.load(exported.file("onnx/fp32/image_encoder.onnx"))
    restore_float(model)
    return model


def run(model: onnx.ModelProto, given: Given) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": given.image})


@pytest.mark.parametrize(
    ("change", "count"),
    [
        # Hiera-T pools the queries in three of its twelve blocks
        pytest.param("integrate-modes", 9, id="integrate-modes"),
        pytest.param("migrate-scales", 24, id="migrate-scales"),
        pytest.param("fuse-attention", 12, id="fuse-attention"),
    ],
)
def test_the_float_graph_computes_the_same(encoder, given, change, count):
    wanted = run(encoder, given)
    assert float_changes.CHANGES[change](encoder, given, "image_encoder") == count
    onnx.checker.check_model(encoder)
    for found, whole in zip(run(encoder, given), wanted, strict=True):
        assert np.abs(found - whole).max() <= 1e-5 * np.abs(whole).max()


def keys_of(model: onnx.ModelProto, given: Given) -> dict[str, np.ndarray]:
    names = [layer.node.output[0] for name, layer in linear_layers(model).items() if "/key/" in name]
    seen = channel_statistics(model, names, given.feeds(""))
    return {name: seen[name].mean for name in names}


def test_keys_have_one_mode_after_integration(encoder, given):
    before = keys_of(encoder, given)
    float_changes.integrate_modes(encoder, given, "image_encoder")
    after = keys_of(encoder, given)
    pooled = {name for name in before if np.allclose(before[name], after[name], atol=1e-6)}
    assert {name.split("/")[1] for name in pooled} == {"blocks.1", "blocks.3", "blocks.10"}
    for name in before.keys() - pooled:
        assert before[name].min() < 0
        np.testing.assert_allclose(after[name], np.abs(before[name]), atol=1e-5)


def test_migrated_channels_differ_less(encoder, given):
    norms = [node.output[0] for node in encoder.graph.node if node.op_type == "LayerNormalization"]

    def spread() -> np.ndarray:
        seen = channel_statistics(encoder, norms, given.feeds(""))
        return np.array([seen[name].largest.max() / np.median(seen[name].largest) for name in norms])

    before = spread()
    float_changes.migrate_scales(encoder, given, "image_encoder")
    assert (spread() < before).mean() > 0.9


def test_corrected_biases_make_up_for_the_mean_of_what_rounding_loses(encoder, given):
    layers, weights = linear_layers(encoder), Weights(encoder)
    layer = next(layer for name, layer in layers.items() if layer.bias and "/mlp/layers.1/" in name)
    mean = channel_statistics(encoder, [layer.given], given.feeds(""))[layer.given].mean
    weight, bias = weights[layer.weight].copy(), weights[layer.bias].copy()
    scale = np.abs(weight).max(0) / 127
    rounded = (weight / scale).round() * scale
    assert float_changes.correct_biases(encoder, given, "image_encoder") == sum(bool(x.bias) for x in layers.values())
    lost = np.abs(mean @ rounded - mean @ weight).max()
    left = np.abs(mean @ rounded + weights[layer.bias] - mean @ weight - bias).max()
    assert left < 0.01 * lost


def test_fused_attention_leaves_no_softmax_and_fewer_transpositions(encoder):
    kinds = [node.op_type for node in encoder.graph.node]
    float_changes.fuse_attention(encoder)
    after = [node.op_type for node in encoder.graph.node]
    assert after.count("MultiHeadAttention") == kinds.count("Softmax") == 12
    assert "Softmax" not in after
    assert after.count("Transpose") < kinds.count("Transpose") - 12
