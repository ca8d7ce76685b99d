"""A release's graphs are a checkpoint: taken apart into SAM2's weights they compute, and export, the same again."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")

import onnx  # noqa: E402

from pipeline.errors import InputError  # noqa: E402
from pipeline.training import export  # noqa: E402
from pipeline.training.architectures import build_segmenter  # noqa: E402
from pipeline.training.released_segmenter import start_segmenter  # noqa: E402

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def again(exported):
    """The segmenter of a release, loaded from its graphs."""
    torch.manual_seed(5)  # other random weights than the release's
    segmenter = build_segmenter().eval()
    start_segmenter(segmenter, exported.folder / "onnx" / "fp32" / "image_encoder.onnx")
    return segmenter


def outputs(graph: onnx.ModelProto | str, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    content = graph if isinstance(graph, str) else graph.SerializeToString()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, inputs)


def test_the_graphs_come_back(again, exported, phantoms):
    image = {"image": np.ascontiguousarray(phantoms[0][:512, :512])[None]}
    folder = exported.folder / "onnx" / "fp32"
    wanted = outputs(str(folder / "image_encoder.onnx"), image)
    for found, was in zip(outputs(export.encoder_onnx(again), image), wanted, strict=True):
        assert np.abs(found - was).max() < 1e-3 * np.abs(was).max()
    prompts = dict(zip(("embedding", "high_res_0", "high_res_1"), wanted, strict=True))
    prompts |= {
        "point_coords": np.float32([[[60, 70], [300, 400]], [[200, 180], [260, 300]]]),
        "point_labels": np.array([[2, 3], [1, 0]], np.int64),
    }
    wanted = outputs(str(folder / "mask_decoder.onnx"), prompts)
    for found, was in zip(outputs(export.decoder_onnx(again), prompts), wanted, strict=True):
        assert np.abs(found - was).max() < 1e-3 * np.abs(was).max()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda folder: (folder / "mask_decoder.onnx").unlink(), r"mask_decoder\.onnx: unreadable"),
        (lambda folder: (folder / "mask_decoder.onnx").write_bytes(b"no graph"), r"mask_decoder\.onnx: unreadable"),
        (
            lambda folder: (folder / "mask_decoder.onnx").replace(folder / "image_encoder.onnx"),
            r"image_encoder\.onnx: lacks 'patch\.weight'",
        ),
    ],
)
def test_what_is_no_segmenter_is_refused(exported, tmp_path, change, sentence):
    for name in ("image_encoder", "mask_decoder"):
        (tmp_path / f"{name}.onnx").write_bytes((exported.folder / "onnx" / "fp32" / f"{name}.onnx").read_bytes())
    change(tmp_path)
    with pytest.raises(InputError, match=sentence):
        start_segmenter(build_segmenter(), tmp_path / "image_encoder.onnx")
