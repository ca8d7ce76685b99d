"""Latency: percentiles and ratios by value, and the command on the shipped weights."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from PIL import Image

from eval import latency, processes
from eval.__main__ import main
from eval.machine import int8_instructions, say_int8
from pipeline.errors import InputError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("model name\t: X\nflags\t\t: fpu avx512f avx512_vnni\n", ("avx512_vnni",), id="x86 with VNNI"),
        pytest.param("flags\t\t: fpu avx2 avx_vnni amx_int8\n", ("avx_vnni", "amx_int8"), id="client and AMX"),
        pytest.param("flags\t\t: fpu avx2 avx512f\n", (), id="x86 without"),
        pytest.param("Features\t: fp asimd asimddp\n", ("asimddp",), id="ARM"),
        pytest.param("model name\t: with avx512_vnni in its name\n", (), id="only flags count"),
        pytest.param(None, (), id="no such file"),
    ],
)
def test_int8_instructions(tmp_path, text, found):
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text)
    assert int8_instructions(path) == found
    assert ("No VNNI" in say_int8(found)) == (not found)


def test_ratios_are_of_the_same_round():
    times = {
        "int8": {"embed": [8.0, 16.0, 8.0], "total": [10.0, 20.0, 10.0]},
        "fp32": {"embed": [1.0, 1.0, 1.0], "total": [20.0, 50.0, 30.0]},
    }
    rows = latency.summarise(times)
    assert rows["int8"]["ms"] == {"embed": {"p50": 8.0, "p90": 14.4}, "total": {"p50": 10.0, "p90": 18.0}}
    assert rows["int8"]["times_int8"] == {"p10": 1.0, "p50": 1.0, "p90": 1.0}
    assert rows["fp32"]["times_int8"] == {"p10": 2.1, "p50": 2.5, "p90": 2.9}


@pytest.fixture(scope="module")
def results(release, tmp_path_factory) -> dict:
    """The command itself, with rows that run here and rows that don't."""
    out = tmp_path_factory.mktemp("latency")
    words = ["--weights", str(release.folder), "--out", str(out), "--rounds", "2", "--cold", "1", "--threads", "1"]
    exports = ["--exports", str(out / "none")]
    rows = "fp32,fp16" if "torch" in sys.modules or _has_torch() else "fp32,fp16,reference"
    assert main(["latency", *words, *exports, "--rows", rows]) == 0
    assert (out / "latency.md").read_text("utf-8").count("| ours, INT8 |") == 2
    return json.loads((out / "latency.json").read_text("utf-8"))


def _has_torch() -> bool:
    import importlib.util

    return importlib.util.find_spec("torch") is not None


def test_stages_make_up_the_total(results):
    assert set(results["warm"]) == {"1"}
    for name in ("int8", "fp32"):
        ms = {stage: value["p50"] for stage, value in results["warm"]["1"][name]["ms"].items()}
        assert set(ms) == {"detect", "embed", "decode", "post", "total"}
        assert min(ms.values()) > 0
        assert ms["embed"] == max(value for stage, value in ms.items() if stage != "total")


def test_what_did_not_run_says_why(results):
    assert "half precision on CUDA" in results["not_run"]["fp16"]
    assert "fp16" not in results["warm"]["1"]
    if "reference" in results["titles"]:
        assert "the build environment" in results["not_run"]["reference"]


def test_bytes_are_the_manifest_s(results, release):
    for precision in ("int8", "fp32"):
        assert results["bytes"][precision] == release.manifest["precisions"][precision]["bytes"]


def test_a_cold_image_stays_below_600_mb(results):
    for name in ("int8", "fp32"):
        row = results["cold"][name]
        assert 50 < row["segment_command"]["peak_mb"] < 600
        assert row["first_run"]["open_ms"] + row["first_run"]["first_ms"] < row["first_run"]["wall_ms"]
    assert results["cold"]["int8"]["segment_command"]["peak_mb"] < results["cold"]["fp32"]["segment_command"]["peak_mb"]


def test_a_processor_without_vnni_is_named(results):
    assert "No VNNI" in latency.make_tables(results | {"int8_instructions": []})
    assert "No VNNI" not in latency.make_tables(results | {"int8_instructions": ["avx512_vnni"]})


def test_an_image_without_one_object_is_refused(release, tmp_path, capsys):
    path = tmp_path / "black.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path)
    words = [
        "--weights",
        str(release.folder),
        "--rows",
        "int8",
        "--image",
        str(path),
        "--rounds",
        "1",
        "--threads",
        "1",
    ]
    assert main(["latency", *words, "--out", str(tmp_path / "out")]) == 2
    assert "objects found in it: int8 0; expected an image with one object" in capsys.readouterr().err
    assert not (tmp_path / "out" / "latency.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["--rows", "int8,fp8"], "no row 'fp8'", id="row"),
        pytest.param(["--threads", "0"], "'0'; expected numbers of threads from 1", id="no thread"),
        pytest.param(["--threads", "two"], "'two'; expected numbers of threads from 1", id="no number"),
    ],
)
def test_options_that_are_refused(tmp_path, capsys, words, message):
    with pytest.raises(SystemExit) as caught:
        main(["latency", "--out", str(tmp_path), *words])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_peak_memory_is_the_child_s_own():
    """A parent that has held much more must not show in it."""
    ballast = bytearray(600_000_000)
    small = processes._run("from eval.processes import tell\ntell({})", [])["peak_mb"]
    large = processes._run("b = bytearray(300_000_000)\nfrom eval.processes import tell\ntell({})", [])["peak_mb"]
    assert len(ballast) == 600_000_000
    assert small < 100
    assert 290 < large - small < 310


def test_a_child_that_fails_is_said():
    with pytest.raises(InputError, match="it ended with 3"):
        processes._run("import sys\nsys.exit(3)", [])
