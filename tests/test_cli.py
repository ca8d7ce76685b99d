"""The command line as its users meet it: a process, its exit code, its lines, its files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from pipeline import __version__
from pipeline.phantoms import write_phantoms

ROOT = Path(__file__).parents[1]
NOTICE = "Research software, not a medical device."
ACCEPTED = "expected a PNG, JPEG, TIFF, single DICOM or 2-D NIfTI file"
STAGES = ["read", "detect", "embed", "decode", "post", "total"]


def run(*words, **settings) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pipeline", *map(str, words)]
    return subprocess.run(command, **{"cwd": ROOT, "capture_output": True, "text": True, "timeout": 300, **settings})


@pytest.fixture(scope="module")
def segment(release):
    """`segment` with the release of the tests."""

    def call(*words, **settings):
        return run("segment", *words, "--weights", release.folder, "--precision", release.precisions[0], **settings)

    return call


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> list[Path]:
    return [path for path, _ in write_phantoms(tmp_path_factory.mktemp("phantoms"))]


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def results_of(*names: str) -> list[str]:
    return sorted(name + end for name in names for end in (".json", "_mask.png", "_overlay.png"))


# --- what is written ---------------------------------------------------------------------------------------------


# pycocotools hands numpy 2 an array in a way of numpy 1
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_one_image_gives_its_three_files_as_documented(segment, phantoms, release, tmp_path):
    done = segment(phantoms[1], "--out", tmp_path / "new" / "out", "--box", "140,60,60,60", "--box", "60.5,40,50,90")
    assert (done.returncode, done.stderr) == (0, "")
    stem = phantoms[1].stem
    out = tmp_path / "new" / "out"
    assert files_below(out) == results_of(stem)
    record = json.loads((out / f"{stem}.json").read_text("utf-8"))
    assert list(record) == [
        "file",
        "width",
        "height",
        "precision",
        "weights",
        "out_of_scope",
        "detections",
        "timings_ms",
    ]
    assert record["file"] == str(phantoms[1])
    assert (record["width"], record["height"], record["precision"]) == (256, 256, release.precisions[0])
    assert record["weights"] == {"version": release.version, "sha256": release.sha256}
    assert list(record["timings_ms"]) == STAGES
    *stages, total = record["timings_ms"].values()
    assert all(stage >= 0 for stage in stages) and sum(stages) <= total + 0.05
    assert record["timings_ms"]["read"] > 0
    label_map = np.zeros((256, 256), np.uint8)
    for found, box in zip(record["detections"], ([140, 60, 60, 60], [60.5, 40, 50, 90]), strict=True):
        assert list(found) == [
            *("label", "class_id", "score", "box", "mask_iou", "area_px", "area_mm2", "rle")
        ]  # fmt: skip
        assert (found["label"], found["class_id"], found["score"]) == ("region", 255, 1.0)
        assert found["box"] == box
        assert 0 <= found["mask_iou"] <= 1
        assert found["area_mm2"] is None
        mask = coco_mask.decode(found["rle"]).astype(bool)
        assert mask.shape == (256, 256) and mask.sum() == found["area_px"]
        label_map[mask] = 255
    with Image.open(out / f"{stem}_mask.png") as image:
        assert np.array_equal(np.asarray(image), label_map)
    with Image.open(out / f"{stem}_overlay.png") as image:
        assert (image.mode, image.size) == ("RGB", (256, 256))


def test_nothing_found_is_a_result(segment, phantoms, tmp_path):
    done = segment(phantoms[0], "--out", tmp_path, "--min-score", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{phantoms[0]}: nothing found (")
    stem = phantoms[0].stem
    assert json.loads((tmp_path / f"{stem}.json").read_text("utf-8"))["detections"] == []
    with Image.open(tmp_path / f"{stem}_mask.png") as image:
        assert np.asarray(image).max() == 0
    with Image.open(tmp_path / f"{stem}_overlay.png") as drawn, Image.open(phantoms[0]) as image:
        assert np.array_equal(np.asarray(drawn), np.asarray(image))


def test_inputs_of_one_stem_keep_their_folders(segment, phantoms, tmp_path):
    for side, phantom in (("left", phantoms[0]), ("right", phantoms[1])):
        (tmp_path / "in" / side).mkdir(parents=True)
        (tmp_path / "in" / side / "scan.png").write_bytes(phantom.read_bytes())
    done = segment(tmp_path / "in", "--out", tmp_path / "out", "--quiet", "--min-score", "1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert files_below(tmp_path / "out") == results_of("left/scan", "right/scan")
    for side, size in (("left", (512, 512)), ("right", (256, 256))):
        with Image.open(tmp_path / "out" / side / "scan_mask.png") as image:
            assert image.size == size


def test_folders_patterns_and_files_in_one_call(segment, phantoms, tmp_path):
    (tmp_path / "folder").mkdir()
    for name, phantom in (("folder/a.png", phantoms[0]), ("b1.png", phantoms[1]), ("b2.png", phantoms[2])):
        (tmp_path / name).write_bytes(phantom.read_bytes())
    done = segment("folder", "b*.png", "b1.png", "--out", "out", "--min-score", "1", "--threads", "1",
                   **{"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(ROOT)}})  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["folder/a.png", "b1.png", "b2.png"]
    assert files_below(tmp_path / "out") == results_of("a", "b1", "b2")


def test_a_name_that_is_not_utf8(segment, phantoms, tmp_path):
    odd = tmp_path / os.fsdecode(b"sc\xff\n<b>.png")
    odd.write_bytes(phantoms[1].read_bytes())
    done = segment(odd, "--out", tmp_path / "out", "--min-score", "1")
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads((tmp_path / "out" / f"{odd.stem}.json").read_text("utf-8"))
    assert record["file"] == str(odd)


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(segment, phantoms, tmp_path_factory):
    """One call on good and bad inputs, good ones first, between and last: its process, folders and bad paths."""
    folder, out = tmp_path_factory.mktemp("mixed"), tmp_path_factory.mktemp("out")
    whole = phantoms[0].read_bytes()
    bad = {
        "empty file": folder / "empty.png",
        "truncated": folder / "truncated.png",
        "text": folder / "text.png",
        "missing": folder / "missing.png",
        "empty folder": folder / "nothing",
        "pattern": folder / "x*.png",
    }
    bad["empty file"].write_bytes(b"")
    bad["truncated"].write_bytes(whole[: len(whole) // 2])
    bad["text"].write_text("not an image\n" * 20)
    bad["empty folder"].mkdir()
    first, *between, last = bad.values()
    done = segment(phantoms[1], first, *between, phantoms[2], last, phantoms[3], "--out", out, "--min-score", "1")
    return done, out, bad


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        ("empty file", "empty"),
        ("truncated", ""),
        ("text", "text"),
        ("missing", "no such file or folder"),
        ("empty folder", "a folder without any scan"),
        ("pattern", "a pattern that matches no scan"),
    ],
)
def test_a_bad_input_is_one_line_that_says_what_and_why(mixed, case, problem):
    done, _, bad = mixed
    [line] = [line for line in done.stderr.splitlines() if line.startswith(f"{bad[case]}: ")]
    assert problem in line
    assert "; expected " in line


def test_beside_bad_inputs_the_good_ones_are_done(mixed, phantoms):
    done, out, bad = mixed
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == len(bad)
    assert files_below(out) == results_of(*(phantom.stem for phantom in phantoms[1:4]))
    assert len(done.stdout.splitlines()) == 3


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--min-score", "1.5"], "argument --min-score: '1.5'; expected a number from 0 to 1"),
        (["--min-score", "nan"], "argument --min-score: 'nan'; expected a number from 0 to 1"),
        (["--min-score", "high"], "argument --min-score: 'high'; expected a number from 0 to 1"),
        (["--box", "1,2,3"], "argument --box: '1,2,3'; expected x,y,width,height in pixels, width and height above 0"),
        (["--box", "1,2,0,4"], "'1,2,0,4'; expected x,y,width,height"),
        (["--box", "1,2,inf,4"], "'1,2,inf,4'; expected x,y,width,height"),
        (["--threads", "0"], "argument --threads: '0'; expected a whole number from 1"),
        (["--threads", "2.5"], "argument --threads: '2.5'; expected a whole number from 1"),
        (["--precision", "int3"], "argument --precision: invalid choice: 'int3'"),
        (["--classes", ","], "argument --classes: ','; expected class names, separated by commas"),
        (["--classes", "lung,nose"], "--classes: 'nose' is not a class of these weights; expected brain_tumor, "),
        (["--prec", "int8"], "unrecognized arguments: --prec int8"),
        (["--weights", "no/such/folder"], "no/such/folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_option_is_one_line(segment, phantoms, tmp_path, words, line):
    done = segment(phantoms[0], "--out", tmp_path / "out", *words) if "--weights" not in words else run(
        "segment", phantoms[0], "--out", tmp_path / "out", *words
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    [said] = done.stderr.splitlines()
    assert line in said
    assert not list(tmp_path.rglob("*.json"))


def test_a_box_outside_one_image_refuses_that_image_only(segment, phantoms, tmp_path):
    small, large = phantoms[1], phantoms[0]  # 256 and 512 pixels
    done = segment(small, large, "--out", tmp_path, "--box", "300,300,50,50")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line == f"{small}: the box 300,300,50,50 lies outside; expected one that covers some of its 256x256 pixels"
    assert files_below(tmp_path) == results_of(large.stem)


@pytest.mark.parametrize("below", ["", "deeper/still"], ids=["is a file", "is below a file"])
def test_a_folder_that_cannot_be_written_to_is_one_line(segment, phantoms, tmp_path, below):
    (tmp_path / "file").write_text("in the way")
    done = segment(phantoms[0], "--out", tmp_path / "file" / below)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"{tmp_path / 'file' / below}: can't be written to (")
    assert line.endswith("; expected a folder with write permission")
    assert files_below(tmp_path) == ["file"]


def test_a_result_that_cannot_be_written_is_one_line_and_the_others_go_on(segment, phantoms, tmp_path):
    (tmp_path / f"{phantoms[0].stem}_overlay.png").mkdir()
    done = segment(*phantoms[:2], "--out", tmp_path, "--min-score", "1")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"{tmp_path}: can't be written to (")
    assert files_below(tmp_path) == sorted([f"{phantoms[0].stem}_mask.png", *results_of(phantoms[1].stem)])


def test_no_result_overwrites_an_input(segment, phantoms, tmp_path):
    truth = phantoms[1].read_bytes()
    (tmp_path / "scan.png").write_bytes(phantoms[0].read_bytes())
    (tmp_path / "scan_mask.png").write_bytes(truth)
    done = segment(tmp_path, "--out", tmp_path, "--min-score", "1")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"{tmp_path / 'scan_mask.png'}: is an input that a result would overwrite; expected ")
    assert (tmp_path / "scan_mask.png").read_bytes() == truth


def test_ctrl_c_is_one_line_and_leaves_whole_files(segment, release, phantoms, tmp_path):
    words = ["--weights", release.folder, "--precision", release.precisions[0]]
    copies = [tmp_path / f"{copy}.png" for copy in range(200)]
    for copy in copies:
        copy.write_bytes(phantoms[1].read_bytes())
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "segment", *map(str, copies), "--out", tmp_path / "out", *words],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
        pipesize=4096,  # so full after a few dozen lines that a run can't end before the signal comes
    )  # fmt: skip
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "Stopped.\n")
    names = files_below(tmp_path / "out")
    assert 3 <= len(names) < 600
    assert not [name for name in names if ".part" in name]
    for name in names:
        if name.endswith(".json"):
            json.loads((tmp_path / "out" / name).read_text("utf-8"))


def test_a_reader_that_leaves_is_no_traceback(release, phantoms, tmp_path):
    words = ["--weights", release.folder, "--precision", release.precisions[0], "--min-score", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "segment", *map(str, phantoms), "--out", tmp_path, *words],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), said) == (1, b"")


# --- what surrounds it -------------------------------------------------------------------------------------------


def test_version():
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"AutoMedSeg {__version__}\n", "")


@pytest.mark.parametrize("words", [["--help"], ["segment", "--help"], ["train", "--help"]], ids=" ".join)
def test_help_ends_with_the_notice(words):
    done = run(*words)
    assert done.returncode == 0
    assert done.stdout.endswith(f"{NOTICE}\n")


def test_help_lists_every_command():
    said = run("--help").stdout
    for command in ("segment", "prepare", "train", "export", "quantize"):
        assert f"\n    {command} " in said
    said = run("train", "--help").stdout
    assert "detector" in said and "segmenter" in said


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["train"], "the following arguments are required: NETWORK"),
        (["segment"], "the following arguments are required: PATH, --out"),
        (["diagnose"], "invalid choice: 'diagnose'"),
    ],
    ids=["no command", "no network", "no path", "unknown command"],
)
def test_what_is_missing_is_one_line(words, line):
    done = run(*words)
    assert done.returncode == 2
    [said] = done.stderr.splitlines()
    assert line in said


@pytest.mark.parametrize(
    "words", [["train", "detector"], ["train", "segmenter"], ["export"], ["quantize"]], ids=" ".join
)
def test_without_torch_the_build_commands_name_the_script_that_installs_it(words):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'onnx']));"
        "from pipeline.cli import main; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"python -m pipeline {words[0]}: the package ")
    assert "`bash install-train.sh`" in line


def test_segment_loads_nothing_of_the_build_environment(release, phantoms, tmp_path):
    code = (
        "import sys; from pipeline.cli import main; code = main();"
        "heavy = ('torch', 'onnx', 'scipy', 'gradio', 'huggingface_hub', 'pipeline.training', 'pipeline.datasets');"
        "sys.exit(code or str([name for name in sys.modules if name in heavy]))"
    )
    words = ["segment", phantoms[0], "--out", tmp_path, "--weights", release.folder]
    words += ["--precision", release.precisions[0], "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stderr == "[]\n"


def test_a_huge_image_stays_under_a_gigabyte_and_a_half(release, tmp_path):
    rows = np.arange(9000)[:, None] // 40 + np.arange(12000)[None] // 60
    Image.fromarray((rows % 256).astype(np.uint8)).save(tmp_path / "huge.png", compress_level=1)
    del rows
    words = ["--weights", release.folder, "--precision", release.precisions[0], "--out", tmp_path / "out"]
    boxes = ["--box", "1000,1000,9000,7000", "--box", "100,100,3000,2000"]
    process = psutil.Popen(
        [sys.executable, "-m", "pipeline", "segment", tmp_path / "huge.png", *map(str, words), *boxes],
        cwd=ROOT, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    peak = 0
    while process.poll() is None:
        try:
            peak = max(peak, process.memory_info().rss)
            process.wait(timeout=0.05)
        except (psutil.TimeoutExpired, psutil.NoSuchProcess):
            continue
    assert process.returncode == 0
    assert 0 < peak < 1.5e9
    record = json.loads((tmp_path / "out" / "huge.json").read_text("utf-8"))
    assert [found["rle"]["size"] for found in record["detections"]] == [[9000, 12000]] * 2
