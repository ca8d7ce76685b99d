"""`python -m pipeline batch` as its users meet it: its files are those of `segment`, its tables say the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.phantoms import write_phantoms, write_stack_phantoms
from tests.batch.batch_runs import ROOT, files_of, run_batch, runs_of, start_batch, tables_of

pytestmark = pytest.mark.batch
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def options(release) -> list[object]:
    return ["--weights", release.folder, "--precision", release.precisions[0]]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """Two images, one of them twice, a volume, a video, a broken file twice, and a name that is not UTF-8."""
    folder = tmp_path_factory.mktemp("inputs")
    first, second, *others = [path for path, _ in write_phantoms(folder)]
    for path in others:
        path.unlink()
    write_stack_phantoms(folder)
    (folder / "again").mkdir()
    (folder / "again" / "copy.png").write_bytes(first.read_bytes())
    (folder / "again" / os.fsdecode(b"sc\xff<b>.png")).write_bytes(second.read_bytes() + b"more")
    for name in ("broken.png", "again/broken2.png"):
        (folder / name).write_bytes(first.read_bytes()[:400])
    return folder


@pytest.fixture(scope="module")
def done(inputs, options, tmp_path_factory) -> tuple[subprocess.CompletedProcess, Path]:
    out = tmp_path_factory.mktemp("out") / "new"
    return run_batch(inputs, "--out", out, *options), out


def rows(out: Path, name: str) -> list[dict]:
    return parquet.read_table(out / f"{name}.parquet").to_pylist()


def test_all_inputs_are_answered_once(done, inputs):
    process, out = done
    assert process.returncode == 2
    assert process.stdout == (
        f"8 inputs: 6 segmented with {len(rows(out, 'detections'))} regions, 2 failed; 6 of them now."
        f" See {out}/report.html\n"
    )
    [line] = process.stderr.splitlines()
    assert line.startswith(f"{inputs}/broken.png: ")
    answered = [(Path(row["input"]).name, row["status"], row["kind"]) for row in rows(out, "inputs")]
    first, second = (path for path in sorted(inputs.glob("*.png")) if path.name != "broken.png")
    assert sorted(answered) == sorted(
        [
            (first.name, "done", "image"),
            (second.name, "done", "image"),
            ("copy.png", "done", "image"),
            ("sc\\udcff<b>.png", "done", "image"),
            ("phantom_heart.nii.gz", "done", "volume"),
            ("phantom_beating_heart.gif", "done", "video"),
            ("broken.png", "failed", None),
            ("broken2.png", "failed", None),
        ]
    )


def test_the_files_are_those_of_segment(done, inputs, options, tmp_path):
    _, out = done
    words = [sys.executable, "-m", "pipeline", "segment", inputs, "--out", tmp_path, "--threads", "1", *options]
    subprocess.run(list(map(str, words)), cwd=ROOT, capture_output=True, timeout=600)
    compared = 0
    for row in rows(out, "inputs"):
        if row["status"] == "done" and "copy" not in row["input"] and "udcff" not in row["input"]:
            record = out / row["result"]
            theirs = {path.name for path in record.parent.iterdir()}
            [ours] = tmp_path.rglob(record.name)
            assert theirs == {path.name for path in ours.parent.glob(f"{record.stem}*")}
            for name in theirs - {record.name}:
                if not name.endswith((".npz", ".gz")):  # zip and gzip hold the time
                    assert (record.parent / name).read_bytes() == (ours.parent / name).read_bytes(), name
            one, other = (json.loads(path.read_text("utf-8")) for path in (record, ours))
            assert one.pop("timings_ms").keys() == other.pop("timings_ms").keys()
            assert one == other
            compared += 1
    assert compared == 4


def test_the_tables_say_what_the_files_do(done, release):
    _, out = done
    found = rows(out, "detections")
    for row in rows(out, "inputs"):
        own = [region for region in found if region["input"] == row["input"]]
        if row["status"] == "failed":
            assert (own, row["result"], row["weights_version"]) == ([], None, None)
            continue
        record = json.loads((out / row["result"]).read_text("utf-8"))
        assert row["sha256"] == Path(row["result"]).parent.name
        assert (row["weights_version"], row["weights_sha256"]) == (release.version, release.sha256)
        told = record["detections"] if row["kind"] == "image" else record["objects"]
        assert row["regions"] == len(told) == len(own)
        assert [region["region"] for region in own] == list(range(1, len(own) + 1))
        for region, said in zip(own, told, strict=True):
            assert (region["label"], region["score"]) == (said["label"], said["score"])
            box = [region[f"box_{side}"] for side in ("x", "y", "width", "height")]
            if row["kind"] == "image":
                assert (box, region["area_px"], region["mask_iou"]) == (said["box"], said["area_px"], said["mask_iou"])
            else:
                assert (box, [region["first"], region["last"]]) == ([None] * 4, said["span"])
                assert region["volume_ml"] == said.get("volume_ml")
    assert found
    times = {row["sha256"]: row["total_ms"] for row in rows(out, "timings")}
    assert set(times) == {row["sha256"] for row in rows(out, "inputs") if row["status"] == "done"}
    assert min(times.values()) > 0


def test_failures_name_each_input_by_its_own_name(done, inputs):
    _, out = done
    said = {row["input"]: row["sentence"] for row in rows(out, "failures")}
    assert set(said) == {f"{inputs}/broken.png", f"{inputs}/again/broken2.png"}
    assert all(sentence.startswith(f"{name}: ") for name, sentence in said.items())
    assert len({sentence.partition(": ")[2] for sentence in said.values()}) == 1


def test_a_second_run_does_nothing_and_changes_nothing(done, inputs, options):
    _, out = done
    before = tables_of(out), files_of(out)
    again = run_batch(inputs, "--out", out, *options)
    assert again.returncode == 2
    assert "; 0 of them now." in again.stdout
    assert (tables_of(out), files_of(out)) == before
    assert [run["answered"] for run in runs_of(out)][0 :: len(runs_of(out)) - 1] == [6, 0]


def test_the_record_says_what_was_run(done, release):
    _, out = done
    record = json.loads((out / "run.json").read_text("utf-8"))
    assert record["settings"]["weights"] == {"version": release.version, "sha256": release.sha256}
    first = record["runs"][0]
    assert first["finished"] >= first["started"]
    assert (first["engine"], first["threads"]) == ("local", 1)
    assert set(first["seconds"]) == {"listing", "hashing", "starting", "answering", "tables", "all"}
    assert {name: told["rows"] for name, told in record["tables"].items()} == {
        name: len(rows(out, name)) for name in ("inputs", "detections", "failures", "timings")
    }


def test_the_report_needs_no_other_file_and_says_the_counts(done, inputs):
    _, out = done
    report = (out / "report.html").read_text("utf-8")
    assert "Research software, not a medical device." in report
    assert '<td>all</td><td class="number">8</td>' in report
    assert '<td>failed</td><td class="number">2</td>' in report
    assert "<b>" not in report and "sc\\udcff&lt;b&gt;.png" in report
    assert 'src="data:image/jpeg;base64,' in report
    assert "http" not in report.replace("http-equiv", "")
    assert f"{inputs}/broken.png: " in report


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--min-score", "0.5"], "holds results of other settings (min_score); expected the same, or another folder"),
        (["--classes", "unicorn"], "holds results of other settings (classes)"),
        (["--address", "auto"], "--address: without --engine ray"),
        (["--weights", "nowhere"], "nowhere"),
    ],
    ids=["settings", "class", "address", "weights"],
)
def test_refused_in_one_line(done, inputs, options, words, said):
    _, out = done
    refused = run_batch(inputs, "--out", out, *options, *words)
    assert (refused.returncode, refused.stdout) == (2, "")
    [line] = refused.stderr.splitlines()
    assert said in line


def test_an_unknown_class_is_refused_by_the_workers_in_one_line(inputs, options, tmp_path):
    refused = run_batch(inputs, "--out", tmp_path, *options, "--classes", "unicorn")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "'unicorn' is not a class of these weights" in refused.stderr.splitlines()[-1]


def test_two_batches_do_not_write_to_one_folder(done, inputs, options):
    import fcntl

    _, out = done
    with open(out / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = run_batch(inputs, "--out", out, *options)
    assert refused.returncode == 2
    assert refused.stderr == f"{out}: another batch is writing to it; expected another folder, or to wait\n"


def test_failures_are_tried_again_when_asked(inputs, options, tmp_path):
    words = [inputs / "broken.png", "--out", tmp_path, *options]
    assert [run_batch(*words, *more).stdout.partition("; ")[2][:1] for more in ([], [], ["--retry-failures"])] == list(
        "101"
    )


# --- workers that die --------------------------------------------------------------------------------------------


def kill_the_worker_of(process: subprocess.Popen, sha256: str, out: Path, seen: set[Path]) -> None:
    """End the worker, as the system does when memory runs out, as soon as it has the input in its hands once more."""
    deadline = time.monotonic() + 120
    while not (new := set(out.glob(f"files/*/.{sha256[:16]}.*.part")) - seen):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    seen |= new
    for child in psutil.Process(process.pid).children():
        if any("multiprocessing.spawn" in word for word in child.cmdline()):
            child.kill()


@pytest.mark.parametrize(("kills", "status"), [(1, "done"), (2, "failed")])
def test_an_input_that_takes_two_workers_with_it_is_a_failure(inputs, options, tmp_path, kills, status):
    from pipeline.batch.content import content_hash

    slow, image = inputs / "phantom_heart.nii.gz", sorted(inputs.glob("phantom*.png"))[0]
    process = start_batch(slow, image, "--out", tmp_path, "--workers", "1", *options)
    seen: set[Path] = set()
    for _ in range(kills):
        kill_the_worker_of(process, content_hash([str(slow)]), tmp_path, seen)
    process.communicate(timeout=300)
    told = {Path(row["input"]).name: row["status"] for row in rows(tmp_path, "inputs")}
    assert told == {slow.name: status, image.name: "done"}
    assert list(tmp_path.glob("files/*/.*")) == []
    sentences = [row["sentence"] for row in rows(tmp_path, "failures")]
    assert (
        sentences == []
        if status == "done"
        else sentences
        == [
            f"{slow}: the process that segmented it was ended by SIGKILL, twice; expected an input that fits into this"
            " machine's memory and is whole"
        ]
    )


def test_workers_go_when_their_parent_is_killed(inputs, options, tmp_path):
    process = start_batch(inputs, "--out", tmp_path, *options)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("files/*/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    assert len(children) >= 2
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
    assert "finished" in runs_of(tmp_path)[0] and runs_of(tmp_path)[0]["finished"] is None


BLOCKED = """
import importlib.util, sys
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == {name!r} else real(name, *rest)
from pipeline.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("name", "more"), [("pyarrow", []), ("ray", ["--engine", "ray"])])
def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path, name, more):
    words = [sys.executable, "-c", BLOCKED.format(name=name), "batch", ".", "--out", str(tmp_path / "out"), *more]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"python -m pipeline batch: the package '{name}' is not installed; expected what requirements-batch.txt lists."
        " Install it with `pip install -r requirements-batch.txt`.\n"
    )
    assert not (tmp_path / "out").exists()
