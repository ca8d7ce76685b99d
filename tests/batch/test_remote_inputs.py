"""Inputs by URL: a real S3 server on this machine, and fsspec's memory."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import InputError
from pipeline.batch.content import content_hash, hash_or_error, local_copy
from pipeline.batch.listing import Input, list_inputs
from pipeline.batch.remembered import hash_with_memory
from pipeline.phantoms import write_phantoms
from tests.batch.batch_runs import environment, run_batch
from tests.test_dicom_series import write_series
from tests.test_volume_files import detached_mhd

pytestmark = pytest.mark.batch
parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("s3fs")

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def s3():
    """The address of an S3 server that holds what each test puts there."""
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(s3, monkeypatch):
    """A bucket's file system, with the environment that leads fsspec to it."""
    import s3fs

    for name, value in (KEYS | {"AWS_ENDPOINT_URL": s3}).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    storage = s3fs.S3FileSystem()
    if storage.exists("archive"):
        storage.rm("archive", recursive=True)
    storage.mkdir("archive")
    return storage


def test_a_batch_of_a_bucket_is_that_of_the_files(s3, bucket, release, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    images = [path for path, _ in write_phantoms(folder)][:2]
    (folder / "broken.png").write_bytes(images[0].read_bytes()[:300])
    for path in (*images, folder / "broken.png"):
        bucket.put(str(path), f"archive/in/{path.name}")
    (tmp_path / "list.csv").write_text(f"path\ns3://archive/in/{images[0].name}\ns3://archive/in/gone.png\n")
    bucket.put(str(tmp_path / "list.csv"), "archive/list.csv")
    options = ["--weights", release.folder, "--precision", release.precisions[0], "--workers", "1"]
    keys = environment(**KEYS, AWS_ENDPOINT_URL=s3, TMPDIR=str(tmp_path))
    done = run_batch("s3://archive/in", "s3://archive/list.csv", "--out", tmp_path / "out", *options, env=keys)
    assert done.returncode == 2
    rows = parquet.read_table(tmp_path / "out" / "inputs.parquet").to_pylist()
    assert [(row["input"], row["status"], row["sha256"]) for row in rows] == [
        ("s3://archive/in/broken.png", "failed", content_hash([str(folder / "broken.png")])),
        *((f"s3://archive/in/{path.name}", "done", content_hash([str(path)])) for path in sorted(images)),
        ("s3://archive/in/gone.png", "failed", None),
    ]
    assert [Path(row["result"] or "").stem for row in rows[1:3]] == [path.stem for path in sorted(images)]
    said = sorted(done.stderr.splitlines())
    assert said[0].startswith("s3://archive/in/broken.png: ")
    assert said[1].startswith("s3://archive/in/gone.png: no such file")
    assert not list(tmp_path.glob("automedseg-*"))


def test_what_a_store_s_tag_vouches_for_is_not_fetched_again(bucket, tmp_path):
    bucket.pipe({"archive/a.png": b"one", "archive/b.png": b"two"})
    (tmp_path / "c.png").write_bytes(b"three")
    inputs = list_inputs(["s3://archive", str(tmp_path / "c.png")])
    asked = []

    def hash_all(found):
        asked.append([Path(one.name).name for one in found])
        return map(hash_or_error, found)

    def run():
        type(bucket).clear_instance_cache()
        return list(hash_with_memory(tmp_path, inputs, hash_all))

    sums = [hashlib.sha256(content).hexdigest() for content in (b"one", b"two", b"three", b"four")]
    assert run() == run() == sums[:3]
    bucket.pipe("archive/b.png", b"four")
    assert run() == [sums[0], sums[3], sums[2]]
    bucket.rm("archive/a.png")
    assert str(run()[0]) == "s3://archive/a.png: no such file; expected a file that exists"
    assert asked == [["a.png", "b.png", "c.png"], ["c.png"], ["b.png", "c.png"], ["a.png", "c.png"]]


def test_series_and_headers_of_a_bucket(bucket, tmp_path):
    write_series(tmp_path / "series")
    detached_mhd(tmp_path / "volume.mhd")
    (tmp_path / "notes").write_text("no scan")
    bucket.put(str(tmp_path / "series"), "archive/study/series", recursive=True)
    for name in ("volume.mhd", "volume.raw", "notes"):
        bucket.put(str(tmp_path / name), f"archive/study/{name}")
    series, volume = list_inputs(["s3://archive/study"])
    assert (series.name, len(series.files), series.is_folder) == ("s3://archive/study/series", 7, True)
    assert volume.files == ("s3://archive/study/volume.mhd", "s3://archive/study/volume.raw")
    here = [found for found in list_inputs([str(tmp_path)]) if found.is_folder or "volume" in found.name]
    assert {content_hash(found.files) for found in here} == {content_hash(found.files) for found in (volume, series)}
    for found in (series, volume):
        with local_copy(found, tmp_path / "scratch") as (path, files):
            from pipeline.stack import read_stack

            assert len(read_stack(path)) > 2
            assert content_hash(files) == content_hash(found.files)


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("s3://archive/nothing/*.png", "no such file or folder"),
        ("s3://no-such-bucket/a", "no such file or folder"),
        ("strange://a/b", "can't be read"),
    ],
)
def test_a_url_that_leads_nowhere_is_one_error(bucket, word, problem):
    [error] = list_inputs([word])
    assert isinstance(error, InputError)
    assert str(error).startswith(f"{word}: {problem}")


def test_any_store_of_fsspec_will_do(tmp_path):
    import fsspec

    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    fsspec.filesystem("memory").put(str(tmp_path / "a.png"), "/place/a.png")
    assert list_inputs(["memory://place/*.png"]) == [Input("memory:///place/a.png", ("memory:///place/a.png",))]
