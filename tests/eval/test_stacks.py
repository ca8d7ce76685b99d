"""The figures of volumes and videos."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")

from eval.__main__ import main
from eval.stacks import StackRecord, stack_dice, summarise
from pipeline.datasets.sequences import LabelledFrames

pytestmark = pytest.mark.training


def masks(*columns: int) -> np.ndarray:
    """bool (N, 1, 10): as many of the first cells as each frame says."""
    return np.stack([np.arange(10)[None] < count for count in columns])


@pytest.mark.parametrize(
    ("kind", "found", "true", "labelled", "expected"),
    [
        pytest.param("volume", (4, 4), (4, 4), (1, 1), 1.0, id="volume-right"),
        pytest.param("volume", (4, 0), (4, 4), (1, 1), 2 * 4 / 12, id="volume-a-slice-missed"),
        pytest.param("volume", (4, 4), (4, 0), (1, 1), 2 * 4 / 12, id="volume-a-slice-too-much"),
        pytest.param("video", (4, 0), (4, 4), (1, 1), 0.5, id="video-a-frame-missed"),
        pytest.param("video", (4, 4), (4, 0), (1, 1), 1.0, id="video-frames-without-the-object-do-not-count"),
        pytest.param("video", (4, 9), (4, 1), (1, 0), 1.0, id="unlabelled-frames-do-not-count"),
        pytest.param("volume", (4, 9), (4, 1), (1, 0), 1.0, id="nor-slices"),
        pytest.param("volume", (4, 4), (0, 0), (1, 1), None, id="nothing-labelled"),
        pytest.param("volume", (4, 4), (0, 5), (1, 0), None, id="nothing-labelled-where-somebody-looked"),
    ],
)
def test_dice_of_a_stack(kind, found, true, labelled, expected):
    truth = LabelledFrames(np.zeros((2, 1, 10), np.uint8), masks(*true), np.array(labelled, bool))
    assert stack_dice(masks(*found), truth, kind) == (expected if expected is None else pytest.approx(expected))


def record(row: str, name: str, dice: float | None) -> StackRecord:
    return StackRecord(row, name, "hearts", name[0], "volume", "left_ventricle", 10, dice, None, 500.0)


def test_rows_are_compared_pair_by_pair():
    records = [record("frames", "a", 0.5), record("frames", "b", 0.7), record("frames", "c", None)]
    records += [record("tubes", "a", 0.6), record("tubes", "b", 0.8), record("tubes", "c", None)]
    frames, tubes = summarise(records, "frames")
    assert (frames["dice"]["mean"], tubes["dice"]["mean"]) == (0.6, 0.7)
    assert tubes["more_than_reference"] == {"mean": 0.1, "low": 0.1, "high": 0.1}
    assert (tubes["stacks"], tubes["patients"], tubes["milliseconds_a_frame"]) == (2, 2, 50.0)


@pytest.mark.data
def test_command_measures_real_volumes(tmp_path):
    if "AUTOMEDSEG_DATA" not in os.environ:
        pytest.skip("AUTOMEDSEG_DATA names no folder")
    folder = tmp_path / "data"
    folder.mkdir()
    source = "msd_task04_hippocampus"
    (folder / source).symlink_to(Path(os.environ["AUTOMEDSEG_DATA"], source).absolute())
    words = ["stacks", "--data", str(folder), "--split", "val", "--every", "26", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    results = json.loads((tmp_path / "out" / "stacks.json").read_text())
    assert [line["row"] for line in results["rows"]] == ["frames", "tubes"]
    assert all(line["dice"]["mean"] > 0.7 for line in results["rows"])
    assert "msd_task04_hippocampus" in (tmp_path / "out" / "stacks.md").read_text()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        pytest.param(["--rows", "cubes"], "--rows: 'cubes'; expected frames, tubes", id="row"),
        pytest.param([], "no test sequence of a class of these weights", id="nothing-there"),
    ],
)
def test_refused(words, sentence, tmp_path, capsys):
    (tmp_path / "photographs").mkdir()
    assert main(["stacks", "--data", str(tmp_path), "--out", str(tmp_path / "out"), *words]) == 2
    assert sentence in capsys.readouterr().err
