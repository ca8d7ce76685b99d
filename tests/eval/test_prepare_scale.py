"""The drawn set of `prepare-scale`: all of it is prepared, and no split cuts a video."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest

pytest.importorskip("scipy", reason="prepare belongs to the build environment")
pytest.importorskip("av", reason="reads the videos")

from eval.__main__ import main
from eval.prepare_scale import _FRAMES

pytestmark = pytest.mark.training


def test_a_small_set_is_drawn_prepared_and_measured(tmp_path):
    words = ["prepare-scale", "--images", "6", "--videos", "3", "--workers", "1", "--out", str(tmp_path)]
    assert main(words) == 0
    splits = defaultdict(set)
    images = 0
    for split in ("train", "val", "test"):
        content = json.loads((tmp_path / "prepared" / f"{split}.json").read_text())
        assert len(content["annotations"]) == len(content["images"])
        images += len(content["images"])
        for image in content["images"]:
            splits[image["series"]].add(split)
    assert images == 6 + 3 * _FRAMES
    assert all(len(splits[f"{video:05d}"]) == 1 for video in range(3))
    found = json.loads((tmp_path / "scale.json").read_text())
    assert found["images_a_second"] > 0 and found["worker_mb"]["most"] > 20
    assert main([*words[:2], "7", *words[3:]]) == 2  # another number of images in the same folder
