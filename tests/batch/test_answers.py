"""Each content is answered once, with results whole or a sentence; what stops all is not held against one input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hub import WeightsError
from pipeline import InputError
from pipeline.batch.answerer import Answerer, Job, Work
from pipeline.batch.answers import (
    Unwritable,
    has_failed,
    is_answered,
    is_done,
    new_results,
    read_failure,
    read_record,
    remove_parts,
    results_folder,
    write_failure,
)
from pipeline.batch.content import content_hash
from pipeline.batch.listing import Input
from pipeline.phantoms import write_phantoms
from tests.batch.batch_runs import ROOT
from tests.test_dicom_series import SLICES, write_series

SHA = "3f" * 32


@pytest.fixture(scope="module")
def answerer(release, tmp_path_factory) -> Answerer:
    return Answerer(make_job(release, tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("scratch")))


def make_job(release, out: Path, scratch: Path, **changes) -> Job:
    settings = {"weights": str(release.folder), "weights_sha256": release.sha256, "precision": release.precisions[0]}
    return Job(**{"out": out, **settings, "threads": 1, "seconds": 300, "session": "s", "scratch": scratch, **changes})


def work_on(*files: Path, **changes) -> Work:
    found = Input(**{"name": str(files[0]), "files": tuple(map(str, files)), **changes})
    return Work(content_hash(found.files), found)


def test_results_take_their_place_whole(tmp_path):
    with pytest.raises(KeyError), new_results(tmp_path, SHA) as part:
        (part / "a.json").write_text("{}")
        raise KeyError
    assert not is_done(tmp_path, SHA)
    assert list((tmp_path / "files" / "3f").iterdir()) == []
    with new_results(tmp_path, SHA) as part:
        (part / "a.json").write_text('{"a": 1}')
    assert read_record(tmp_path, SHA) == ({"a": 1}, f"files/3f/{SHA}/a.json")
    with new_results(tmp_path, SHA) as part:  # who is second changes nothing
        (part / "a.json").write_text('{"a": 2}')
    assert read_record(tmp_path, SHA)[0] == {"a": 1}
    assert [path.name for path in (tmp_path / "files" / "3f").iterdir()] == [SHA]


def test_what_a_lost_power_supply_leaves_is_done_again(tmp_path):
    with new_results(tmp_path, SHA) as part:
        (part / "a.json").write_text("")
        (part / "a_mask.png").write_text("")
    write_failure(tmp_path, SHA, "a", InputError("a", "b", "c"))
    [failure] = tmp_path.glob("failed/*/*.json")
    failure.write_text("")
    assert not is_answered(tmp_path, SHA)
    with new_results(tmp_path, SHA) as part:
        (part / "b.json").write_text("{}")
    assert is_answered(tmp_path, SHA)
    assert [path.name for path in results_folder(tmp_path, SHA).iterdir()] == ["b.json"]


def test_parts_of_a_killed_run_are_removed(tmp_path):
    part = results_folder(tmp_path, SHA).with_name(f".{SHA[:16]}.0.part")
    part.mkdir(parents=True)
    (part / "a.png").write_bytes(b"x")
    write_failure(tmp_path, SHA, "a", InputError("a", "b", "c"))
    left = tmp_path / "failed" / "3f" / ".0.part.json"
    left.write_text("{")
    remove_parts(tmp_path)
    assert not part.exists() and not left.exists()
    assert read_failure(tmp_path, SHA) == {"input": "a", "problem": "b", "sentence": "a: b; expected c"}


def test_a_file_where_results_should_go_ends_the_run(tmp_path):
    (tmp_path / "files").write_text("")
    with pytest.raises(Unwritable, match=r"can't be written to \(Not a directory\)"), new_results(tmp_path, SHA):
        pass


def test_an_image_is_answered_once(answerer, tmp_path):
    image = write_phantoms(tmp_path)[1][0]
    work = work_on(image)
    answerer(work)
    out = answerer.job.out
    record, place = read_record(out, work.sha256)
    assert (record["file"], Path(place).name) == (str(image), f"{image.stem}.json")
    before = (out / place).stat().st_mtime_ns
    answerer(Work(work.sha256, Input("other.png", ("other.png",))))
    assert (out / place).stat().st_mtime_ns == before
    assert not has_failed(out, work.sha256)


def test_a_failure_names_the_input_and_not_where_it_was_copied_to(answerer, tmp_path):
    write_series(tmp_path / "a", SLICES[:, :, :3])
    files = sorted((tmp_path / "a").iterdir())
    files[1].write_bytes(files[1].read_bytes()[:-40])
    work = work_on(*files, name=str(tmp_path / "a"), is_folder=True)
    answerer(work)
    sentence = read_failure(answerer.job.out, work.sha256)["sentence"]
    assert sentence.startswith(f"{files[1]}: its pixels can't be decoded (damaged")
    assert list(answerer.job.scratch.iterdir()) == []


def test_a_file_that_changes_is_not_answered_as_what_it_was(answerer, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.full((64, 64), 7, np.uint8)).save(path)
    work = work_on(path)
    Image.fromarray(np.full((64, 64), 8, np.uint8)).save(path)
    answerer(work)
    assert read_failure(answerer.job.out, work.sha256)["problem"] == "changed while the batch ran"


def test_a_time_limit_is_a_failure_that_names_the_input(release, tmp_path):
    image = write_phantoms(tmp_path)[0][0]
    (tmp_path / "out").mkdir()
    work = work_on(image)
    Answerer(make_job(release, tmp_path / "out", tmp_path, seconds=0.001))(work)
    assert read_failure(tmp_path / "out", work.sha256)["sentence"].startswith(f"{image}: took longer than 0.001 s; ")


HANGING = """
import sys, time
from pathlib import Path
from pipeline.batch import answerer
from tests.batch.test_answers import make_job, work_on
from hub import resolve
answerer._GRACE = 0.2
answerer.is_stack = lambda path: time.sleep(60)
out, image, weights = map(Path, sys.argv[1:])
answerer.Answerer(make_job(resolve(str(weights)), out, out, seconds=0.5))(work_on(image))
"""


def test_what_hangs_outside_of_the_networks_ends_its_process_and_is_a_failure(release, tmp_path):
    image = write_phantoms(tmp_path)[0][0]
    (tmp_path / "out").mkdir()
    words = [sys.executable, "-c", HANGING, str(tmp_path / "out"), str(image), str(release.folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (1, "")
    assert read_failure(tmp_path / "out", work_on(image).sha256)["problem"] == "took longer than 0.5 s"


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"weights_sha256": "0" * 64}, WeightsError, "other weights than the batch was started with"),
        ({"out": Path("/nowhere/at/all")}, InputError, "is not there on every machine"),
        ({"classes": ["unicorn"]}, InputError, "'unicorn' is not a class of these weights"),
    ],
    ids=["weights", "folder", "class"],
)
def test_what_is_wrong_for_all_is_said_when_a_worker_starts(release, tmp_path, changes, error, said):
    with pytest.raises(error, match=said):
        Answerer(make_job(release, tmp_path, tmp_path, **changes) if "out" not in changes
                 else make_job(release, changes["out"], tmp_path))  # fmt: skip


def test_a_fault_of_the_program_is_a_failure_without_the_input_s_words(answerer, tmp_path, monkeypatch):
    image = write_phantoms(tmp_path)[2][0]
    work = work_on(image)

    def fault(*_, **__):
        raise ZeroDivisionError("Doe^Jane")

    monkeypatch.setattr("pipeline.batch.answerer.image_to_files", fault)
    answerer(work)
    failure = json.dumps(read_failure(answerer.job.out, work.sha256))
    assert "an error of the program (ZeroDivisionError at test_answers.py:" in failure
    assert "Doe" not in failure
