"""Where weights come from. The Hub is on this machine, its client the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub import WeightsError, resolve
from tests.hub.conftest import contents

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", [str, Path])
def test_folder(release_folder, kind):
    assert resolve(kind(release_folder)).folder == release_folder


def test_folder_is_taken_before_a_repository(release_folder, monkeypatch):
    monkeypatch.chdir(release_folder.parent.parent)
    name = f"{release_folder.parent.name}/{release_folder.name}"
    assert resolve(name).version == "0.1.0"


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ("", "'': no such folder; expected 'embedded', a folder with manifest.json, or user/repo"),
        ("nowhere", "'nowhere': no such folder"),
        ("./a/b/c", "'./a/b/c': no such folder"),
        ("../weights", "'../weights': no such folder"),
        ("/nowhere/at", "'/nowhere/at': no such folder"),
        ("user/repo@", "'user/repo@': no such folder"),
        ("user/repo@a b", "no such folder"),
        (str(ROOT / "LICENSE"), "LICENSE': a file; expected"),
        (str(ROOT / "tests"), r"manifest\.json: no such file; expected a release with config\.json"),
    ],
)
def test_what_is_no_release_is_said(weights, says):
    with pytest.raises(WeightsError, match=says):
        resolve(weights)


@pytest.fixture
def commit(loopback, release_folder) -> str:
    return loopback.add("user/repo", contents(release_folder), tag="v0.1.0")


USE = """
from hub import resolve
release = resolve({weights!r})
print(release.version, release.precisions, release.file("onnx/int8/detector.onnx").read_text())
"""
USED = "0.1.0 ('int8', 'fp32') int8 detector\n"


@pytest.mark.parametrize("revision", ["", "@main", "@v0.1.0", "@COMMIT"])
def test_only_the_files_in_use_are_fetched_and_of_one_commit(loopback, machine, commit, revision):
    revision = revision.replace("COMMIT", commit)
    done = machine.run("-c", USE.format(weights=f"user/repo{revision}"))
    assert (done.stdout, done.returncode) == (USED, 0), done.stderr
    resolved = [line.split("/resolve/")[1] for line in loopback.log if line.startswith("HEAD")]
    asked = revision[1:] or "main"
    assert resolved == [f"{asked}/manifest.json", f"{commit}/config.json", f"{commit}/onnx/int8/detector.onnx"]
    assert sum(line.startswith("GET /stored") for line in loopback.log) == 1


def test_what_was_fetched_once_works_offline(loopback, machine, commit):
    machine.run("-c", USE.format(weights="user/repo"))
    loopback.log.clear()
    done = machine.run("-c", USE.format(weights="user/repo"), HF_HUB_OFFLINE="1")
    assert (done.stdout, loopback.log) == (USED, []), done.stderr


@pytest.mark.parametrize(
    ("weights", "environment", "says"),
    [
        pytest.param("user/none", {}, "no such repository on the Hub, or it is private; log in", id="no repository"),
        pytest.param("user/gated", {}, "gated; accept its terms", id="gated"),
        pytest.param("user/repo@v9", {}, "user/repo@v9: the repository has no such revision", id="no revision"),
        pytest.param("user/repo", {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set", id="offline"),
        pytest.param("user/a--b", {}, "could not be fetched", id="a name the Hub refuses"),
    ],
)
def test_hub_errors_are_one_line(machine, commit, weights, environment, says):
    done = machine.hub("verify", weights, **environment)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_any_file_is_fetched_with_its_commit(machine, loopback):
    commit = loopback.add("user/official", {"nested/weights.pt": b"tensors"})
    code = "from hub.reference import Reference as R; from hub.resolve import fetch_file as f"
    done = machine.run("-c", f"{code}; path, commit = f(R('user/official'), 'nested/weights.pt'); print(path, commit)")
    path, found = done.stdout.split()
    assert Path(path).read_bytes() == b"tensors"
    assert found == commit
