"""A batch that is killed with SIGKILL again and again leaves what an undisturbed one does."""

from __future__ import annotations

import shutil

import pytest

from pipeline.phantoms import write_phantoms, write_stack_phantoms
from tests.batch.batch_runs import write_variants
from tests.batch.kill_and_continue import kill_and_continue

pytestmark = pytest.mark.batch
pytest.importorskip("pyarrow")


def test_three_kills_change_nothing(release, tmp_path):
    (tmp_path / "drawn").mkdir()
    drawn = [path for path, _ in write_phantoms(tmp_path / "drawn")]
    inputs = tmp_path / "in"
    images = write_variants(drawn[1:3], inputs, 12)
    shutil.copy(write_stack_phantoms(tmp_path / "drawn")[0][0], inputs)
    shutil.copy(images[0], inputs / "copy.png")
    (inputs / "broken.png").write_bytes(images[0].read_bytes()[:300])
    options = ["--weights", release.folder, "--precision", release.precisions[0], "--workers", "2"]
    assert kill_and_continue([inputs], tmp_path / "work", kills=3, seed=1, options=options) == []
