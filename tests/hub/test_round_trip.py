"""The embedded release, published, fetched by a machine that has nothing, and run."""

from __future__ import annotations

import shutil

import pytest

from hub import resolve
from tests.hub.conftest import Machine, contents

OWN_CODE_ALONE = """
import numpy as np, onnxruntime
from huggingface_hub import hf_hub_download
for name in {names!r}:
    session = onnxruntime.InferenceSession(hf_hub_download("user/weights", name, revision="v{version}"))
    sizes = {{"N": 1, "P": 2}}
    feeds = {{
        given.name: np.zeros(
            [size if isinstance(size, int) else sizes.get(size, 1) for size in given.shape],
            {{"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(int64)": np.int64}}[given.type],
        )
        for given in session.get_inputs()
    }}
    assert all(np.isfinite(array).all() for array in session.run(None, feeds)), name
import sys
assert "hub" not in sys.modules and "pipeline" not in sys.modules
print("ran", len({names!r}))
"""

MASKS = """
import sys, numpy as np
from pipeline import AutoSegmenter
from pipeline.phantoms import *
import json
segmenter = AutoSegmenter.from_release(sys.argv[1], threads=1)
image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
found = segmenter(image, boxes=np.array([[40, 50, 200, 220], [10, 10, 90, 80]], np.float32))
free = segmenter(np.tile(np.linspace(0, 255, 400)[None, :, None], (300, 1, 3)).astype(np.uint8))
np.savez(sys.argv[2], boxed=found.mask_logits, free=free.mask_logits, boxes=free.detections.boxes)
print(json.dumps(found.weights))
"""


@pytest.fixture
def published(machine, loopback):
    done = machine.hub("publish", "--repo", "user/weights")  # one command
    assert done.returncode == 0, done.stderr
    return resolve()


def test_embedded_release_goes_round_byte_for_byte_and_gives_the_same_masks(published, machine, loopback, tmp_path):
    fresh = Machine(loopback, tmp_path / "fresh")
    name = f"user/weights@v{published.version}"
    done = fresh.hub("pull", name, "--to", tmp_path / "got", HF_TOKEN="")
    assert done.returncode == 0, done.stderr
    expected, got = contents(published.folder), contents(tmp_path / "got")
    card = got.pop("README.md").decode()
    assert f'hf_hub_download("user/weights", "onnx/int8/detector.onnx", revision="v{published.version}")' in card
    expected.pop("README.md")
    assert {name: content for name, content in expected.items()} == got
    shutil.rmtree(tmp_path / "got")

    alone = OWN_CODE_ALONE.format(
        version=published.version, names=[name for name in published.manifest["files"] if name.endswith(".onnx")]
    )
    (tmp_path / "elsewhere.py").write_text(alone)
    done = fresh.run("-I", tmp_path / "elsewhere.py", HF_TOKEN="")
    assert done.stdout == f"ran {alone.count('.onnx') // 2}\n", done.stderr

    outputs = []
    for place, machine_ in (("embedded", machine), (name, fresh)):
        out = tmp_path / f"{len(outputs)}.npz"
        done = machine_.run("-c", MASKS, place, out)
        assert done.returncode == 0, done.stderr
        outputs.append(out.read_bytes())
    assert f'"commit": "{loopback.repositories["models", "user/weights"].commits[-1].oid}"' in done.stdout
    assert outputs[0] == outputs[1]
