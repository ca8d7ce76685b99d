"""Publishing to the Hub on loopback, through its real client."""

from __future__ import annotations

import json
import threading
import time

import pytest

from hub import Release
from hub.card import model_card
from hub.release import write_manifest
from tests.hub.conftest import contents, make_release

REPO = ("models", "user/weights")


@pytest.fixture
def folder(tmp_path):
    return make_release(tmp_path / "ready", "1.0.0")


def publish(machine, folder, *options: str, **settings: str):
    return machine.hub("publish", "--repo", "user/weights", *options, folder, **settings)


def refused(done, says: str) -> None:
    assert done.returncode == 2, done.stdout
    assert says in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_one_commit_and_its_tag(machine, loopback, folder):
    done = publish(machine, folder, "--private")
    assert done.returncode == 0, done.stderr
    repository = loopback.repositories[REPO]
    _, commit = repository.commits
    assert repository.tags == {"v1.0.0": commit.oid}
    assert repository.private
    assert commit.title == "Version 1.0.0"
    assert done.stdout.splitlines()[-1] == f"user/weights@v1.0.0 is commit {commit.oid}."
    expected = contents(folder) | {"README.md": model_card(Release.open(folder), "user/weights").encode()}
    assert {n: loopback.content("user/weights", "v1.0.0", n) for n in commit.files if n[0] != "."} == expected


def test_dry_run_shows_the_changes_and_makes_none(machine, loopback, folder):
    done = publish(machine, folder, "--dry-run", HF_TOKEN="")
    assert done.returncode == 0, done.stderr
    assert "user/weights: v1.0.0, the first version, on a new repository" in done.stdout
    assert "+ onnx/int8/detector.onnx" in done.stdout
    assert loopback.repositories == {}


def test_next_version_changes_only_what_is_new(machine, loopback, folder, tmp_path):
    publish(machine, folder)
    loopback.log.clear()
    done = publish(machine, make_release(tmp_path / "next", "1.1.0", b"others"))
    assert done.returncode == 0, done.stderr
    changed = [line.split()[:2] for line in done.stdout.splitlines()[1:-1]]
    assert changed == [["~", "README.md"], ["~", "manifest.json"], ["~", "training/detector.safetensors"]]
    assert sum(line.startswith("PUT") for line in loopback.log) == 1
    assert list(loopback.repositories[REPO].tags) == ["v1.0.0", "v1.1.0"]


def test_file_that_the_new_version_lacks_is_taken_away(machine, loopback, folder):
    loopback.add("user/weights", {".gitattributes": b"", "old.onnx": b"old", "README.md": b"by hand"})
    done = publish(machine, folder)
    assert "- old.onnx" in done.stdout
    assert "~ README.md" in done.stdout
    assert set(loopback.repositories[REPO].find("v1.0.0").files) == {".gitattributes", *contents(folder)}


def test_version_may_be_named(machine, loopback, folder):
    before = contents(folder)
    assert publish(machine, folder, "--version", "2.0.0").returncode == 0
    manifest = json.loads(loopback.content("user/weights", "v2.0.0", "manifest.json"))
    assert manifest == json.loads(before["manifest.json"]) | {"version": "2.0.0"}
    assert b"# AutoMedSeg 2.0.0" in loopback.content("user/weights", "v2.0.0", "README.md")
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("1.2.0", "v1.2.0 is published already, as commit"),
        ("1.1.9", "v1.1.9 is not newer than v1.2.0"),
        ("1.2", "version '1.2'; expected three numbers, such as 1.0.0"),
        ("v1.3.0", "version 'v1.3.0'; expected three numbers"),
    ],
)
def test_tag_never_moves_and_versions_only_rise(machine, loopback, folder, version, says):
    publish(machine, folder, "--version", "1.2.0")
    tags = dict(loopback.repositories[REPO].tags)
    refused(publish(machine, folder, "--version", version), says)
    assert loopback.repositories[REPO].tags == tags
    assert len(loopback.repositories[REPO].commits) == 2


def test_stopped_before_its_tag_a_publication_goes_on(machine, loopback, folder):
    publish(machine, folder)
    loopback.repositories[REPO].tags.clear()
    done = publish(machine, folder)
    assert "the files are there already; only the tag is missing" in done.stdout
    assert len(loopback.repositories[REPO].commits) == 2
    assert loopback.repositories[REPO].tags == {"v1.0.0": loopback.repositories[REPO].commits[-1].oid}


@pytest.mark.parametrize(
    ("setup", "token", "says"),
    [
        pytest.param("none", "", "publishing needs a token, and there is none here; log in", id="no token"),
        pytest.param("none", "hf_wrong", "the Hub does not accept the token", id="a token nobody has"),
        pytest.param("none", "hf_reader", "no such repository, and this token may not make one for 'user'", id="none"),
        pytest.param("public", "hf_reader", "because the token may not do that", id="a token that reads"),
        pytest.param("public", "hf_other", "because the token may not do that", id="another's repository"),
        pytest.param("private", "hf_other", "the repository exists, but this token may not see it", id="unseen"),
    ],
)
def test_permission_is_told_from_a_missing_repository(machine, loopback, folder, setup, token, says):
    if setup != "none":
        loopback.add("user/weights", {".gitattributes": b""}, private=setup == "private")
    refused(publish(machine, folder, HF_TOKEN=token), says)
    assert "v1.0.0" not in getattr(loopback.repositories.get(REPO), "tags", {})


def test_private_is_not_taken_for_done_on_a_public_repository(machine, loopback, folder):
    loopback.add("user/weights", {".gitattributes": b""})
    refused(publish(machine, folder, "--private"), "the repository exists and is public")


def test_of_two_publishers_at_once_one_is_told_of_the_conflict(machine, loopback, folder, tmp_path):
    loopback.add("user/weights", {".gitattributes": b""})
    both = threading.Barrier(2)
    loopback.before_commit = lambda: both.wait(60)
    folders = [folder, make_release(tmp_path / "second", "1.1.0", b"others")]
    processes = [machine.start("-m", "hub", "publish", "--repo", "user/weights", path) for path in folders]
    said = [process.communicate(timeout=120)[1] for process in processes]
    codes = [process.returncode for process in processes]
    assert sorted(codes) == [0, 2], said
    assert said[codes.index(2)] == (
        "user/weights: someone else published while this ran, so nothing was changed; look at what is there, then run"
        " again.\n"
    )
    repository, winner = loopback.repositories[REPO], folders[codes.index(0)]
    assert len(repository.commits) == 2
    (tag,) = repository.tags
    assert loopback.content("user/weights", tag, "manifest.json") == (winner / "manifest.json").read_bytes()


def test_of_two_that_make_the_repository_at_once_one_is_told(machine, loopback, folder):
    both = threading.Barrier(2)
    loopback.before_create = lambda: both.wait(60)
    processes = [machine.start("-m", "hub", "publish", "--repo", "user/weights", folder) for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in processes]
    codes = [process.returncode for process in processes]
    assert sorted(codes) == [0, 2], said
    assert "user/weights: someone else made the repository while this ran" in said[codes.index(2)]
    assert len(loopback.repositories[REPO].commits) == 2


def test_tag_that_another_took_meanwhile_stays_theirs(machine, loopback, folder):
    theirs = loopback.add("user/weights", {".gitattributes": b""})
    loopback.before_tag = lambda: loopback.repositories[REPO].tags.setdefault("v1.0.0", theirs)
    refused(publish(machine, folder), "someone else published v1.0.0 while this ran, and a tag never moves")
    assert loopback.repositories[REPO].tags == {"v1.0.0": theirs}


def test_upload_that_is_cut_is_sent_again(machine, loopback, folder):
    loopback.cut_uploads = [1000]
    done = publish(machine, folder)
    assert done.returncode == 0, done.stderr
    assert loopback.cut_uploads == []
    assert loopback.content("user/weights", "v1.0.0", "onnx/int8/detector.onnx") == (
        (folder / "onnx/int8/detector.onnx").read_bytes()
    )


def test_publisher_that_is_killed_while_it_uploads_goes_on_where_it_was(machine, loopback, folder):
    arrived = []

    def kill_at_the_second(sha256: str) -> None:
        arrived.append(sha256)
        if sha256 != arrived[0]:
            while not loopback.large:  # the first one is stored
                time.sleep(0.01)
            process.kill()
            raise ConnectionError

    loopback.before_upload = kill_at_the_second
    process = machine.start("-m", "hub", "publish", "--repo", "user/weights", folder)
    process.communicate(timeout=120)
    assert list(loopback.large) == arrived[:1]
    assert len(loopback.repositories[REPO].commits) == 1, "only the first commit, which the Hub makes"
    loopback.before_upload = lambda sha256: None
    loopback.log.clear()
    assert publish(machine, folder).returncode == 0
    sent = {line.split("/upload/")[1] for line in loopback.log if line.startswith("PUT")}
    assert sent, "the one that was cut"
    assert arrived[0] not in sent, "it is there already"
    assert list(loopback.repositories[REPO].tags) == ["v1.0.0"]


def put_pickle(folder):
    (folder / "weights.pt").write_bytes(b"\x80\x04.")


def damage_graph(folder):
    release = Release.open(folder)
    (folder / "onnx/int8/detector.onnx").write_bytes(b"no graph")
    relist(folder, release)


def relist(folder, release):
    made = write_manifest(folder, version="1.0.0", revision="abc1234", trained_on=release.manifest["trained_on"])
    (folder / "README.md").write_text(model_card(made), "utf-8")


def flip(folder):
    (folder / "training/detector.safetensors").write_bytes(b"Weights")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        pytest.param(put_pickle, "weights.pt: not listed in the manifest", id="a pickle beside"),
        pytest.param(damage_graph, "onnxruntime can't open this graph", id="a graph that does not open"),
        pytest.param(flip, "training/detector.safetensors: sha256", id="a flipped bit"),
        pytest.param(lambda f: (f / "README.md").unlink(), "no model card; make it with", id="no card"),
        pytest.param(lambda f: (f / "README.md").write_text("x"), "not the card that the manifest gives", id="card"),
        pytest.param(lambda f: (f / "manifest.json").unlink(), "manifest.json: no such file", id="no manifest"),
        pytest.param(lambda f: (f / "training/detector.safetensors").unlink(), "training: not there", id="a part"),
    ],
)
def test_release_that_is_not_whole_is_refused_before_the_hub_is_asked(machine, loopback, folder, damage, says):
    damage(folder)
    refused(publish(machine, folder), says)
    assert loopback.log == []


@pytest.mark.parametrize("repo", ["weights", "user/weights@v1.0.0", "a/b/c", "../x"])
def test_name_that_is_no_repository_is_refused(machine, folder, repo):
    refused(machine.hub("publish", "--repo", repo, folder), "expected user/name")
