"""Sessions: what is refused and how it is said, and how many threads are taken."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

from hub import WeightsError
from hub.release import write_manifest
from pipeline.errors import InputError
from pipeline.runtime import available_cores, open_graph, open_session

DETECTOR = {"inputs": ["image"], "outputs": ["boxes", "scores", "class_index"]}


@pytest.fixture(scope="module")
def decoder_bytes(release) -> bytes:
    return release.file(f"onnx/{release.precisions[0]}/mask_decoder.onnx").read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda graph: b"", id="empty file"),
        pytest.param(lambda graph: b"not a graph at all\n" * 9, id="text"),
        pytest.param(lambda graph: graph[: len(graph) // 2], id="half of a graph"),
        pytest.param(lambda graph: graph.replace(b"LayerNormalization", b"LayerNormalisation"), id="unknown operator"),
    ],
)
def test_a_graph_that_cannot_run_is_a_weights_error_of_one_line(damage, decoder_bytes, tmp_path):
    path = tmp_path / "graph.onnx"
    path.write_bytes(damage(decoder_bytes))
    with pytest.raises(WeightsError, match=r"graph\.onnx: onnxruntime can't open this graph \(.+\)\.$") as caught:
        open_session(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_graph_is_a_weights_error(tmp_path):
    with pytest.raises(WeightsError, match=r"lacking\.onnx"):
        open_session(tmp_path / "lacking.onnx")


@pytest.mark.parametrize(
    ("precision", "threads", "message"),
    [
        pytest.param("int2", None, "precision: 'int2'; expected int8, int4, fp32, fp16", id="unknown precision"),
        pytest.param("INT8", None, "precision: 'INT8'; expected int8, int4, fp32, fp16", id="upper case"),
        pytest.param("int4", None, "precision: these weights hold no int4; expected int8, fp32", id="not in these"),
        pytest.param("int8", 0, "threads: 0; expected 1 or more", id="no threads"),
        pytest.param("int8", -2, "threads: -2; expected 1 or more", id="fewer than none"),
    ],
)
def test_options_that_are_refused(precision, threads, message, release):
    with pytest.raises(InputError) as caught:
        open_graph(release, "detector", precision, threads, **DETECTOR)
    assert str(caught.value) == message


def test_half_precision_needs_cuda(release, monkeypatch):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(
        InputError, match=r"^precision: fp16 computes in half precision on CUDA.*; expected int8 or fp32$"
    ):
        open_graph(release, "detector", "fp16", **DETECTOR)


@pytest.fixture
def small_release(release, decoder_bytes, tmp_path):
    """A release whose only graph is the mask decoder, under the detector's name."""
    path = tmp_path / "onnx" / "int8" / "detector.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(decoder_bytes)
    (tmp_path / "config.json").write_text(json.dumps(release.config), "utf-8")
    return write_manifest(tmp_path, version="0.0.1", revision="none", trained_on={})


def test_another_networks_graph_is_a_weights_error(small_release):
    with pytest.raises(
        WeightsError, match=r"detector\.onnx takes embedding, .* expected image and boxes, scores, class"
    ):
        open_graph(small_release, "detector", "int8", **DETECTOR)


def test_a_precision_that_the_release_lacks_is_said(small_release):
    with pytest.raises(InputError) as caught:
        open_graph(small_release, "detector", "fp32", **DETECTOR)
    assert str(caught.value) == "precision: these weights hold no fp32; expected int8"


def test_a_flipped_byte_is_a_weights_error(small_release):
    path = small_release.folder / "onnx" / "int8" / "detector.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"sha256 .* damaged or was changed"):
        open_graph(small_release, "detector", "int8", **DETECTOR)


def test_threads_do_not_change_what_is_found(release, tmp_path):
    path = tmp_path / "detector.onnx"
    shutil.copy(release.file(f"onnx/{release.precisions[0]}/detector.onnx"), path)
    size = release.config["detector"]["input_size"]
    image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    one, two = (open_session(path, threads).run(None, {"image": image}) for threads in (1, 2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        pytest.param("max 100000\n", 8, id="no quota"),
        pytest.param("200000 100000\n", 2, id="two cores"),
        pytest.param("150000 100000\n", 2, id="one and a half"),
        pytest.param("10000 100000\n", 1, id="a tenth"),
        pytest.param("6400000 100000\n", 8, id="more than there are"),
        pytest.param("strange\n", 8, id="not understood"),
        pytest.param(None, 8, id="no such file"),
    ],
)
def test_cores_are_those_of_the_container(quota, cores, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    file = tmp_path / "cpu.max"
    if quota is not None:
        file.write_text(quota)
    assert available_cores(file) == cores
