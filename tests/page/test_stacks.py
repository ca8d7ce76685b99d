"""Volumes and videos on the page: the API gives what the command line does, work is stopped, images go in between."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import nibabel
import numpy as np
import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from page.answers import Answers
from page.stacks import Stacks, Stopped
from pipeline.errors import InputError
from tests.page.conftest import ROOT


@pytest.fixture(scope="module")
def stacks(release) -> Stacks:
    return Stacks(Answers(str(release.folder), seconds=60), seconds=600)


def ask(stacks: Stacks, path: Path, **asked):
    return stacks.ask(stacks.question(path, "int8", ["left_ventricle"], None), **asked)


@pytest.mark.parametrize("name", ["heart volume", "heart video"])
def test_the_api_and_the_command_line_say_the_same(client, files, release, tmp_path, name):
    told, taken = client.predict(
        files=[handle_file(str(files[name]))], classes=["left_ventricle"], api_name="/segment_stack"
    )
    subprocess.run(
        [sys.executable, "-m", "pipeline", "segment", files[name], "--out", tmp_path, "--weights", release.folder,
         "--classes", "left_ventricle"], cwd=ROOT, check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    [record] = tmp_path.glob("*.json")
    expected = json.loads(record.read_text("utf-8"))
    assert expected["objects"][0]["label"] == "left_ventricle"
    assert told | {"file": "", "timings_ms": {}} == expected | {"file": "", "timings_ms": {}}
    assert sorted(Path(path).name for path in taken) == sorted(path.name for path in tmp_path.iterdir())
    for path in map(Path, taken):
        if path.name.endswith("_seg.nii.gz"):
            assert np.array_equal(nibabel.load(path).get_fdata(), nibabel.load(tmp_path / path.name).get_fdata())
        if path.name.endswith("_seg.npz"):
            assert np.array_equal(np.load(path)["labels"], np.load(tmp_path / path.name)["labels"])


def test_the_api_refuses_in_one_sentence(client, files):
    with pytest.raises(AppError) as refused:
        client.predict(files=[handle_file(str(files["text"]))], api_name="/segment_stack")
    assert "holds text, whatever its name says" in str(refused.value)
    assert str(files["text"].parent) not in str(refused.value)


def test_frames_of_their_own_make_a_video(stacks, files, tmp_path):
    from page.stack_upload import upload

    paths = []
    with Image.open(files["heart video"]) as video:
        for number in range(2):
            video.seek(number)
            paths.append(tmp_path / f"{number}.png")
            video.convert("L").save(paths[-1])
    with upload(paths) as folder:
        stack, found = ask(stacks, folder)
    assert (stack.kind, len(stack), len(found.tracks)) == ("video", 2, 1)


def test_progress_is_told_with_the_time_that_is_left(stacks, files):
    told = []
    stack, _ = ask(stacks, files["heart video"], progress=lambda *step: told.append(step))
    done, totals, left = zip(*told, strict=True)
    assert list(done) == sorted(done) and done[-1] == totals[-1] == 2 * len(stack)
    assert left[-1] == 0 and all(seconds is None or seconds >= 0 for seconds in left)


def test_a_visitor_stops_its_own_work_and_no_one_else_s(stacks, files):
    steps = []

    def step(*_) -> None:
        steps.append(stacks.stop("someone else"))
        stacks.stop("visitor")

    with pytest.raises(Stopped):
        ask(stacks, files["heart video"], visitor="visitor", progress=step)
    assert steps == [False]
    assert not stacks.stop("visitor")
    assert ask(stacks, files["heart video"], visitor="visitor")[1].tracks  # what was stopped holds up nothing


def test_an_image_is_answered_while_a_stack_runs(stacks, files):
    answers, order = stacks.answers, []
    question = answers.question(str(files["Phantom: chest X-ray"]), "int8", None, None)
    answers.ask(question)

    def image() -> None:
        answers.ask(question)
        order.append("image")

    def step(done: int, total: int, left: float | None) -> None:
        if not threads:
            threads.append(threading.Thread(target=image))
            threads[0].start()
            while not answers.turns._waiting and not order:
                pass
        order.append(done)

    threads: list[threading.Thread] = []
    ask(stacks, files["heart video"], progress=step)
    threads[0].join(timeout=60)
    assert order.index("image") < len(order) - 1


def test_what_takes_too_long_is_ended(release, files):
    stacks = Stacks(Answers(str(release.folder), seconds=60), seconds=1e-6)
    with pytest.raises(InputError, match="took longer than 1e-06 s"):
        ask(stacks, files["heart video"])


@pytest.fixture(scope="module")
def long_volume(tmp_path_factory) -> Path:
    """Slices enough for minutes."""
    path = tmp_path_factory.mktemp("long") / "long.nii.gz"
    voxels = np.random.default_rng(0).integers(0, 900, (64, 64, 900)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1, 1, 4, 1])), path)
    return path


def busy_seconds(server, seconds: float) -> float:
    """What the server computes meanwhile."""
    before = sum(server.process.cpu_times()[:2])
    time.sleep(seconds)
    return sum(server.process.cpu_times()[:2]) - before


def wait_for_work(server, busy: bool) -> None:
    """Until the server computes, or until it has come to rest."""
    end = time.monotonic() + 60
    while (busy_seconds(server, 1) > 0.1) != busy:
        assert time.monotonic() < end, "still idle" if busy else "still computing"


@pytest.mark.parametrize("way", ["api", "page"])
def test_a_stack_ends_when_its_visitor_has_gone(server, long_volume, client, way):
    """The connection is closed in the middle of the answer, as a closed browser closes it."""
    [[path]] = [
        httpx.post(f"{server.url}gradio_api/upload", files={"files": ("long.nii.gz", long_volume.read_bytes())}).json()
    ]
    given = [[{"path": path, "meta": {"_type": "gradio.FileData"}}], "int8", ["lung"], 0.3, "auto", "auto"]
    if way == "api":
        asked = {"data": given}
        event = httpx.post(f"{server.url}gradio_api/call/segment_stack", json=asked).json()["event_id"]
        answer = f"{server.url}gradio_api/call/segment_stack/{event}"
    else:
        functions = httpx.get(f"{server.url}config").json()["dependencies"]
        # the tab's own is the one of its inputs with six answers
        [number] = {each["id"] for each in functions if len(each["inputs"]) == len(each["outputs"]) == 6}
        asked = {"data": given, "fn_index": number, "session_hash": "leaves"}
        httpx.post(f"{server.url}gradio_api/queue/join", json=asked).raise_for_status()
        answer = f"{server.url}gradio_api/queue/data?session_hash=leaves"
    with httpx.stream("GET", answer, timeout=60):
        wait_for_work(server, busy=True)
        time.sleep(3)  # the networks have been loaded, the file has been read
        wait_for_work(server, busy=True)
    start = time.monotonic()
    wait_for_work(server, busy=False)
    assert time.monotonic() - start < 15  # a frame on a busy machine, and looking whether it rests
