"""The Space: the page's code, and weights pinned to a commit."""

from __future__ import annotations

import ast

import pytest
import yaml

from tests.hub.conftest import ROOT, Machine, contents, make_release


@pytest.fixture
def commit(loopback, tmp_path) -> str:
    return loopback.add("user/weights", contents(make_release(tmp_path / "ready", "1.0.0")), tag="v1.0.0")


def test_space_holds_the_page_and_names_its_weights_by_commit(machine, loopback, commit):
    done = machine.hub("space", "user/page", "--weights", "user/weights@v1.0.0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{loopback.url}/spaces/user/page"
    files = loopback.repositories["spaces", "user/page"].find("main").files
    assert {"app.py", "requirements.txt", "space.py", "hub/resolve.py", "pipeline/auto_segmenter.py"} <= set(files)
    assert {"page/page.css", "page/head.html", "page/surface/canvas.js", "page/surface/canvas.html"} <= set(files)
    assert not [name for name in files if name.startswith(("pipeline/training", "tests"))]
    assert not [name for name in files if name.startswith("hub/") and name.count("/") > 1]  # the releases
    matter = yaml.safe_load(files["README.md"][1].decode().split("---\n")[1])
    assert matter["app_file"] == "space.py"
    assert matter["sdk"] == "gradio"
    fetched = "manifest.json,config.json,onnx/int8/detector.onnx,onnx/int8/mask_decoder.onnx"
    assert matter["preload_from_hub"] == [f"user/weights {fetched} {commit}"]
    assert matter["models"] == ["user/weights"]
    assert f"user/weights@{commit}" in files["space.py"][1].decode()
    ast.parse(files["space.py"][1])
    assert files["app.py"][1] == (ROOT / "app.py").read_bytes()


def test_space_published_again_drops_what_is_gone(machine, loopback, commit):
    assert machine.hub("space", "user/page", "--weights", "user/weights").returncode == 0
    space = loopback.repositories["spaces", "user/page"]
    space.commits[-1].files["old.py"] = space.commits[-1].files["app.py"]
    assert machine.hub("space", "user/page", "--weights", "user/weights").returncode == 0
    assert "old.py" not in space.find("main").files
    assert ".gitattributes" in space.find("main").files


def test_dry_run_lists_the_files_and_makes_nothing(machine, loopback, commit):
    done = machine.hub("space", "user/weights", "--dry-run", HF_TOKEN="")
    assert done.returncode == 0, done.stderr
    assert "space.py" in done.stdout
    assert ("spaces", "user/weights") not in loopback.repositories


@pytest.mark.parametrize(
    ("weights", "token", "says"),
    [
        ("user/none", "hf_user", "no such repository on the Hub"),
        ("user/weights", "", "publishing needs a token"),
        ("user/weights", "hf_reader", "because the token may not do that"),
    ],
)
def test_space_errors_are_one_line(machine, commit, weights, token, says):
    done = machine.hub("space", "user/page", "--weights", weights, HF_TOKEN=token)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_space_starts_from_its_files_and_the_preloaded_weights_alone(machine, loopback, tmp_path):
    commit = loopback.add("user/real", contents(ROOT / "hub" / "embedded"), tag="v1.0.0")
    assert machine.hub("space", "user/page", "--weights", "user/real@v1.0.0").returncode == 0
    files = loopback.repositories["spaces", "user/page"].find("main").files
    for name, (_, content, _, _) in files.items():
        (tmp_path / "space" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "space" / name).write_bytes(content)
    matter = yaml.safe_load(files["README.md"][1].decode().split("---\n")[1])
    repo, names, pinned = matter["preload_from_hub"][0].split()
    assert pinned == commit
    fetch = "import sys; from huggingface_hub import hf_hub_download as f; repo, names, commit = sys.argv[1:]"
    fresh = Machine(loopback, tmp_path / "fresh")
    done = fresh.run("-c", f"{fetch}\nfor n in names.split(','): f(repo, n, revision=commit)", repo, names, pinned)
    assert done.returncode == 0, done.stderr
    # as the Space's machine does, but for serving: the page is built, and a first image is segmented
    start = """
import runpy, app, numpy
from pipeline import AutoSegmenter
def launch(page, **_):
    found = AutoSegmenter.from_release(sys.argv[2], threads=1)(numpy.zeros((64, 64, 3), numpy.uint8))
    print("page", type(page).__name__, found.weights["commit"])
app.launch = launch
runpy.run_path("space.py")
"""
    command = ["-c", f"import os, sys; os.chdir({str(tmp_path / 'space')!r}); sys.path[0] = os.getcwd(){start}"]
    done = fresh.run(*command, HF_HUB_OFFLINE="1", GRADIO_ANALYTICS_ENABLED="False")
    assert done.stdout.splitlines()[-1:] == [f"page Blocks {commit}"], done.stderr
