"""Ray gives what local processes give, also when a machine is lost, and when an input ends its workers."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import psutil
import pytest

from pipeline.batch.content import content_hash
from pipeline.phantoms import write_phantoms, write_stack_phantoms
from tests.batch.batch_runs import ROOT, environment, files_of, run_batch, start_batch, tables_of, write_variants
from tests.batch.lose_a_node import answered_exactly_once, lose_a_node

pytestmark = [pytest.mark.batch, pytest.mark.filterwarnings("default")]
pytest.importorskip("ray.data")
parquet = pytest.importorskip("pyarrow.parquet")


#: Batches are started in another folder than the code's, and inputs named from there.
HERE = environment(PYTHONPATH=str(ROOT))


@pytest.fixture(scope="module")
def options(release) -> list[object]:
    return ["--weights", release.folder, "--precision", release.precisions[0]]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """30 images, one of them twice, and a broken one."""
    drawn = [path for path, _ in write_phantoms(tmp_path_factory.mktemp("drawn"))]
    folder = tmp_path_factory.mktemp("images")
    first, *_ = write_variants(drawn[1:4], folder, 30)
    (folder / "copy.png").write_bytes(first.read_bytes())
    (folder / "broken.png").write_bytes(first.read_bytes()[:300])
    return folder


@pytest.fixture(scope="module")
def local(images, options, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("local")
    assert run_batch(images.name, "--out", out, *options, cwd=images.parent, env=HERE).returncode == 2
    return out


def test_a_lost_node_loses_nothing_and_changes_nothing(images, local, options, tmp_path):
    said = lose_a_node([images.name], tmp_path / "out", 31, options, cwd=images.parent, env=HERE)
    assert said.splitlines()[-1].startswith("32 inputs: 31 segmented with ")  # Ray says there that a node is lost
    assert answered_exactly_once(tmp_path / "out") == []
    assert tables_of(tmp_path / "out") == tables_of(local)
    assert files_of(tmp_path / "out") == files_of(local)


def test_a_cluster_that_is_not_there_is_one_line(images, options, tmp_path):
    refused = run_batch(images, "--out", tmp_path, "--engine", "ray", "--address", "127.0.0.1:1", *options)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.splitlines()[-1].startswith("--address: no cluster to be reached at 127.0.0.1:1 (")


def test_an_input_that_takes_two_actors_with_it_is_a_failure(images, options, tmp_path):
    slow = write_stack_phantoms(tmp_path)[0][0]
    out = tmp_path / "out"
    words = [slow, images / "image00000.png", "--out", out, "--engine", "ray", "--workers", "1", *options]
    with start_batch(*words, stderr=subprocess.DEVNULL) as process:
        seen: set[Path] = set()
        for _ in range(2):
            deadline = time.monotonic() + 240
            while not (marks := set(out.glob(f".attempts/*/{content_hash([str(slow)])}/*")) - seen):
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
            seen |= marks
            for child in psutil.Process(process.pid).children(recursive=True):
                if "MapWorker" in "".join(child.cmdline()):
                    child.kill()
        process.communicate(timeout=400)
    rows = parquet.read_table(out / "inputs.parquet").to_pylist()
    assert [(Path(row["input"]).name, row["status"]) for row in rows] == [
        (slow.name, "failed"),
        ("image00000.png", "done"),
    ]
    [failure] = parquet.read_table(out / "failures.parquet").to_pylist()
    assert failure["problem"] == "the process that segmented it was ended, twice"
    assert not list(out.glob(".attempts/*/*/*")) and not list(out.glob("files/*/.*"))
