"""The batch's rate: rows by value, images of different content, and the command on a few drawn ones."""

from __future__ import annotations

import json
import os

import pytest

from pipeline import InputError

pytestmark = pytest.mark.batch
pytest.importorskip("pyarrow")
pytest.importorskip("scipy")

from eval import batch  # noqa: E402
from eval.__main__ import main  # noqa: E402
from tests.datasets import layouts  # noqa: E402


def test_a_row_adds_its_rounds_up_and_growth_leaves_the_start_out():
    runs = [
        {"images": 10, "seconds": 4.0, "cpu_seconds": 6.0, "memory_mb": [[t, m] for t, m in enumerate(first)]}
        for first in ([10.0, 50.0, 90.0, 100.0, 100.0, 101.0, 103.0, 103.0], [99.0] * 8, [7.0])
    ]
    row = batch.summarise(runs, 2, 1)
    assert (row["images"], row["seconds"], row["images_per_second"], row["cpu_ms_an_image"]) == (30, 12.0, 2.5, 600.0)
    assert (row["peak_mb"], row["growth_mb"]) == (103.0, 8.0)


def test_images_differ_and_are_spread_over_the_rounds(tmp_path):
    layouts.kvasir(tmp_path / "data" / "kvasir")
    layouts.busi(tmp_path / "data" / "busi")
    folders = batch.write_images(tmp_path / "data", "train", tmp_path / "images", 7, 2)
    contents = [[path.read_bytes() for path in sorted(folder.iterdir())] for folder in folders]
    assert list(map(len, contents)) == [4, 3]
    assert len(set(contents[0] + contents[1])) == 7


def test_data_without_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="no image of test"):
        batch.write_images(tmp_path, "test", tmp_path / "images", 7, 1)


def test_this_process_holds_memory():
    assert 10 < batch.held_mb(os.getpid()) < 20_000
    assert batch.held_mb(2**22 + 1) == 0


def test_the_command(release, tmp_path):
    layouts.kvasir(tmp_path / "data" / "kvasir")
    words = [
        "--data",
        tmp_path / "data",
        "--split",
        "train",
        "--count",
        4,
        "--out",
        tmp_path / "out",
        "--weights",
        release.folder,
    ]
    assert main(["batch", *map(str, words), "--precision", release.precisions[0]]) == 0
    results = json.loads((tmp_path / "out" / "batch.json").read_text("utf-8"))
    rows = results["rows"]
    assert [row["images"] for row in rows.values()] == [4, 4, 4]
    rates = [row["images_per_second"] for row in rows.values()]
    assert min(rates) > 0
    assert results["scaling"] == pytest.approx(rates[1] / (rows["a worker a core"]["workers"] * rates[0]), abs=2e-3)
    assert (tmp_path / "out" / "batch.md").read_text("utf-8").count("\n| ") == 4
