"""Fetching from the Hub on loopback: whole, cut, damaged, hostile, offline, onto a full disk."""

from __future__ import annotations

import json
import subprocess

import pytest

from hub import Release
from tests.hub.conftest import GRAPH, contents, make_release


@pytest.fixture
def folder(tmp_path):
    return make_release(tmp_path / "ready", "1.0.0")


@pytest.fixture
def commit(loopback, folder) -> str:
    return loopback.add("user/weights", contents(folder), tag="v1.0.0")


def refused(done, says: str) -> None:
    assert done.returncode == 2, done.stdout
    assert says in done.stderr.splitlines()[-1], done.stderr


def blobs(machine) -> list[bytes]:
    """What the cache holds, finished or not."""
    return [path.read_bytes() for path in machine.home.glob("hub/*/blobs/*")]


@pytest.mark.parametrize("revision", ["@v1.0.0", "@1.0.0", "@main", "", "@COMMIT"])
def test_revision_is_resolved_to_its_commit(machine, commit, folder, tmp_path, revision):
    revision = revision.replace("COMMIT", commit)
    done = machine.hub("pull", f"user/weights{revision}", "--to", tmp_path / "got")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"is commit {commit}.\n")
    assert contents(tmp_path / "got") == contents(folder)


def test_result_records_the_commit(machine, commit):
    done = machine.run("-c", "from hub import resolve; print(resolve('user/weights@v1.0.0').identity['commit'])")
    assert done.stdout == f"{commit}\n"


def test_one_precision_is_fetched_alone_and_another_added(machine, loopback, commit, folder, tmp_path):
    got = tmp_path / "got"
    assert machine.hub("pull", "user/weights@v1.0.0", "--precision", "int8", "--to", got).returncode == 0
    int8 = {"onnx/int8/detector.onnx", "onnx/int8/mask_decoder.onnx"}
    assert set(contents(got)) == {"README.md", "config.json", "manifest.json", *int8}
    done = machine.hub("verify", got)
    assert done.stdout.endswith("all as listed; without onnx/fp32, training\n")
    assert machine.hub("pull", "user/weights@v1.0.0", "--precision", "fp32", "--to", got).returncode == 0
    assert {*int8, "onnx/fp32/detector.onnx"} <= set(contents(got))


def test_precision_that_is_not_there(machine, commit):
    refused(machine.hub("pull", "user/weights", "--precision", "int4"), "has no int4; it holds int8, fp32.")


def test_offline_from_the_cache_or_one_sentence(machine, loopback, commit, tmp_path):
    assert machine.hub("pull", "user/weights@v1.0.0", "--precision", "int8").returncode == 0
    loopback.log.clear()
    offline = {"HF_HUB_OFFLINE": "1"}
    done = machine.hub("pull", "user/weights@v1.0.0", "--precision", "int8", "--to", tmp_path / "got", **offline)
    assert done.returncode == 0, done.stderr
    refused(
        machine.hub("pull", "user/weights@v1.0.0", "--precision", "fp32", "--to", tmp_path / "more", **offline),
        "HF_HUB_OFFLINE is set, and onnx/fp32/detector.onnx is not in its cache; expected a network or a folder.",
    )
    refused(machine.hub("list", "user/weights", **offline), "HF_HUB_OFFLINE is set")
    assert loopback.log == []
    assert not (tmp_path / "more").exists()


def test_download_that_is_cut_is_resumed_where_it_was(machine, loopback, folder, tmp_path):
    # the client takes parts of 10 MB, so only a larger file has anything to go on from
    loopback.add("user/weights", contents(make_release(folder, "1.0.0", b"w" * 24_000_000)), tag="v1.0.0")
    loopback.cut_downloads = [10**9, 15_000_000]
    done = machine.hub("pull", "user/weights@v1.0.0", "--to", tmp_path / "got")
    assert done.returncode == 0, done.stderr
    resumed = [int(line.split("bytes=")[1][:-1]) for line in loopback.log if "bytes=" in line]
    assert len(resumed) == 1
    assert 0 < resumed[0] <= 15_000_000
    assert contents(tmp_path / "got") == contents(folder)


def test_pull_that_was_killed_goes_on_with_the_files_that_are_missing(machine, loopback, folder, tmp_path):
    # graphs of their own content, so that each has to be fetched
    loopback.add("user/weights", contents(make_release(folder, "1.0.0", b"w" * 500_000)), tag="v1.0.0")
    process = machine.start("-m", "hub", "pull", "user/weights@v1.0.0", "--to", tmp_path / "got")
    size = GRAPH.stat().st_size

    class KillAt(list):
        """Cuts nothing, but ends the puller when the second large file is asked for."""

        served = 0

        def __bool__(self):
            self.served += 1
            if self.served == 2:
                process.kill()
            return False

    loopback.cut_downloads = KillAt()
    process.communicate(timeout=120)
    loopback.cut_downloads = []
    assert not (tmp_path / "got").exists(), "nothing half-written"
    loopback.log.clear()
    assert machine.hub("pull", "user/weights@v1.0.0", "--to", tmp_path / "got").returncode == 0
    again = [line for line in loopback.log if line.startswith("GET /stored")]
    assert len(again) == 1, "the graph is in the cache; only the training weights were missing"
    assert (tmp_path / "got/onnx/int8/detector.onnx").stat().st_size == size
    assert contents(tmp_path / "got") == contents(folder)


@pytest.mark.parametrize("name", ["training/detector.safetensors", "config.json", "manifest.json"])
def test_flipped_byte_is_refused_and_not_left_in_the_cache(machine, loopback, commit, folder, tmp_path, name):
    loopback.flip_byte("user/weights", "v1.0.0", name)
    got = tmp_path / "got"
    done = machine.hub("pull", "user/weights@v1.0.0", "--to", got)
    refused(done, "taken out of the cache; run again.")
    assert name in done.stderr
    assert loopback.content("user/weights", "v1.0.0", name) not in blobs(machine)
    assert not got.exists()
    loopback.flip_byte("user/weights", "v1.0.0", name)
    assert machine.hub("pull", "user/weights@v1.0.0", "--to", got).returncode == 0
    assert contents(got) == contents(folder)


@pytest.mark.parametrize("name", ["../../x.onnx", "/etc/x.onnx", "onnx/../../x.onnx", "C:/x.onnx", "weights.pt"])
def test_manifest_that_names_other_places_or_a_pickle_is_refused(machine, loopback, folder, tmp_path, name):
    files = contents(folder)
    manifest = json.loads(files["manifest.json"])
    manifest["files"][name] = {"bytes": 1, "sha256": "0" * 64}
    loopback.add("user/weights", files | {"manifest.json": json.dumps(manifest).encode()}, tag="v1.0.0")
    loopback.log.clear()
    done = machine.hub("pull", "user/weights@v1.0.0", "--to", tmp_path / "got")
    refused(done, "is not allowed in a release" if name.endswith(".pt") else "is not a plain path inside the release")
    assert not (tmp_path / "got").exists()
    assert not [line for line in loopback.log if "stored" in line or ".pt" in line]


def test_pickle_in_the_repository_is_never_fetched(machine, loopback, folder, tmp_path):
    loopback.add("user/weights", contents(folder) | {"pytorch_model.bin": b"\x80\x04.", "x.pkl": b"."}, tag="v1.0.0")
    loopback.log.clear()
    assert machine.hub("pull", "user/weights@v1.0.0", "--to", tmp_path / "got").returncode == 0
    assert set(contents(tmp_path / "got")) == set(contents(folder))
    assert not [line for line in loopback.log if ".bin" in line or ".pkl" in line]


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ("user/weights@v9.9.9", "user/weights@v9.9.9: the repository has no such revision; name a branch, tag"),
        ("user/weights@9.9.9", "user/weights@9.9.9: the repository has no such revision"),
        ("user/none", "no such repository on the Hub, or it is private"),
        ("user/gated", "the repository is gated"),
        ("user/empty", "holds no manifest.json; expected a repository with an AutoMedSeg release"),
        ("nonsense", "'nonsense': no name of a repository"),
    ],
)
def test_what_is_not_there_is_one_sentence(machine, loopback, commit, weights, says):
    loopback.add("user/empty", {"README.md": b""})
    done = machine.hub("pull", weights)
    refused(done, says)
    assert done.stderr.count("\n") == 1


def test_private_repository_needs_a_token(machine, loopback, folder, tmp_path):
    loopback.add("user/hidden", contents(folder), private=True)
    refused(machine.hub("pull", "user/hidden", HF_TOKEN=""), "no such repository on the Hub, or it is private; log in")
    assert machine.hub("pull", "user/hidden", "--to", tmp_path / "got").returncode == 0


def test_folder_that_holds_something_else_is_left_alone(machine, commit, tmp_path):
    other = make_release(tmp_path / "other", "0.9.0")
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "thesis.txt").write_text("years of work")
    for folder, says in ((other, "holds release 0.9.0, not the same"), (strange, "holds thesis.txt")):
        before = contents(folder)
        refused(machine.hub("pull", "user/weights@v1.0.0", "--to", folder), says)
        assert contents(folder) == before


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", disk], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_full_disk_below_the_folder(machine, commit, small_disk):
    done = machine.hub("pull", "user/weights@v1.0.0", "--to", small_disk / "got")
    refused(done, "the disk is full, and 1 MB are needed; free some space, then run again.")
    assert "manifest.json" not in contents(small_disk / "got"), "a folder with a manifest is a release"
    assert not [name for name in contents(small_disk / "got") if ".part" in name]


def test_full_disk_below_the_cache(machine, loopback, small_disk, folder, tmp_path):
    loopback.add("user/weights", contents(make_release(folder, "1.0.0", b"w" * 500_000)), tag="v1.0.0")
    machine.home = small_disk / "hf"
    done = machine.hub("pull", "user/weights@v1.0.0", "--to", tmp_path / "got")
    refused(done, "the disk is full; free some space, or let HF_HOME name another disk, then run again.")
    assert not list(small_disk.rglob("*.incomplete"))
    assert not (tmp_path / "got").exists()


def test_list_names_the_versions_newest_first(machine, loopback, folder, commit, tmp_path):
    tenth = loopback.add("user/weights", contents(make_release(tmp_path / "ten", "1.10.0")), tag="v1.10.0")
    ninth = loopback.add("user/weights", contents(make_release(tmp_path / "nine", "1.9.0")), tag="v1.9.0")
    loopback.add("user/weights", {"README.md": b""}, tag="draft")
    done = machine.hub("list", "user/weights")
    assert done.returncode == 0, done.stderr
    told = [line.split()[:2] for line in done.stdout.splitlines()]
    assert told == [["v1.10.0", tenth[:12]], ["v1.9.0", ninth[:12]], ["v1.0.0", commit[:12]]]
    assert "Dice 0.800 (int8, test), Dice 0.810 (fp32, test)" in done.stdout


def test_verify_reads_every_file_of_a_revision(machine, loopback, commit):
    assert "all as listed" in machine.hub("verify", "user/weights@v1.0.0").stdout
    loopback.flip_byte("user/weights", "v1.0.0", "training/detector.safetensors")
    machine.home = machine.home.with_name("another")
    done = machine.hub("verify", "user/weights@v1.0.0")
    assert done.returncode == 2
    assert "training/detector.safetensors: sha256" in done.stderr


def test_diff_of_two_versions(machine, loopback, commit, tmp_path):
    other = make_release(tmp_path / "other", "1.1.0", b"others")
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["figures"]["int8"]["macro"]["dice"] = 0.825
    (other / "manifest.json").write_text(json.dumps(manifest))
    done = machine.hub("diff", "user/weights@v1.0.0", other)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"| | 1.0.0 ({commit[:12]}) | 1.1.0 | change |"
    assert "| mean over sources, Dice int8 | 0.800 | 0.825 | +0.025 |" in lines
    assert "| class polyp, id | 2 | 2 | |" in lines
    assert "| onnx/int8, MB | 0.5 | 0.5 | +0.0 |" in lines
    assert [line for line in lines if line.startswith("| training/detector.safetensors") and "other content" in line]


def test_pulled_folder_opens_as_the_release_that_it_is(machine, commit, folder, tmp_path):
    machine.hub("pull", "user/weights@v1.0.0", "--to", tmp_path / "got")
    assert Release.open(tmp_path / "got").sha256 == Release.open(folder).sha256
