"""From words to inputs: folders, patterns, tables of paths; slices of a series together; each once, in order."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import InputError
from pipeline.batch.content import content_hash, local_copy
from pipeline.batch.listing import Input, list_inputs
from pipeline.batch.series import read_dicom_header
from tests.fuzz import bombs
from tests.test_dicom_series import SLICES, write_series
from tests.test_volume_files import detached_mhd


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """a.png, sub/b.png, sub/notes.txt; also the folder that the test stands in."""
    (tmp_path / "sub").mkdir()
    for number, name in enumerate(("a.png", "sub/b.png")):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(tmp_path / name)
    (tmp_path / "sub" / "notes.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*words: object) -> list[str]:
    return [found.name if isinstance(found, Input) else f"! {found}" for found in list_inputs(map(str, words))]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["."], ["a.png", "sub/b.png"]),
        (["sub", "a.png"], ["sub/b.png", "a.png"]),
        (["**/*.png"], ["a.png", "sub/b.png"]),
        (["a.png", "sub/../a.png", "*.png"], ["a.png"]),
        (["missing.png"], ["! missing.png: no such file or folder"]),
        (["x*"], ["! x*: a pattern that matches no scan"]),
    ],
    ids=["folder", "order", "pattern", "twice", "missing", "empty pattern"],
)
def test_words_of_this_machine(folder, words, expected):
    assert [name.partition(";")[0] for name in names(*words)] == expected


def test_a_csv_lists_paths_from_its_own_folder(folder, monkeypatch):
    (folder / "sub" / "list.csv").write_text(f"patient,Path\n1,b.png\n2,\n3,../a.png\n4,{folder}/a.png\n5,gone.png\n")
    monkeypatch.chdir("/")
    found = names(folder / "sub" / "list.csv")
    assert found[:2] == [f"{folder}/sub/b.png", f"{folder}/sub/../a.png"]
    assert found[2].startswith(f"! {folder}/sub/gone.png: no such file or folder")
    assert len(found) == 3


def test_a_parquet_table_lists_paths(folder):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"file": ["sub", None, "a.png"]}), folder / "list.parquet")
    assert names("list.parquet") == ["sub/b.png", "a.png"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a,b\n1,2\n", "a table with the columns a, b; expected a column called path"),
        (b"path\n\xff\xfe\n", "not a table that can be read"),
        (b"", "not a table that can be read"),
    ],
    ids=["no column", "not text", "empty"],
)
def test_a_table_that_is_none_is_refused(folder, content, problem):
    (folder / "list.csv").write_bytes(content)
    [said] = names("list.csv")
    assert said.startswith(f"! list.csv: {problem}")


def test_slices_of_a_series_are_one_input_and_series_in_a_folder_are_several(folder):
    write_series(folder / "one")
    first = write_series(folder / "two", seed=1)
    write_series(folder / "two", SLICES[..., :3], seed=2)
    write_series(folder / "single", SLICES[..., :1])
    whole, *halves, single = list_inputs(["one", "two", "single"])
    assert (whole.name, len(whole.files), whole.is_folder) == ("one", 7, True)
    assert sorted(len(half.files) for half in halves) == [3, 7]
    firsts = [Path(half.files[0]).relative_to(folder) for half in halves]
    assert [half.name for half in halves] == [
        f"{first} (+{len(half.files) - 1})" for first, half in zip(firsts, halves, strict=True)
    ]
    assert not set(halves[0].files) & set(halves[1].files)
    assert (str(folder / single.name), single.is_folder) == (single.files[0], False)
    assert first


def test_a_series_is_read_from_a_folder_of_its_own(folder):
    write_series(folder / "two", seed=1)
    write_series(folder / "two", SLICES[..., :3], seed=2)
    [short] = [found for found in list_inputs(["two"]) if len(found.files) == 3]
    with local_copy(short, folder / "scratch") as (path, files):
        from pipeline.stack import read_stack

        assert len(read_stack(path)) == 3
        assert content_hash(files) == content_hash(short.files)
    assert list((folder / "scratch").iterdir()) == []


def test_the_voxels_beside_a_header_belong_to_it(folder):
    header = detached_mhd(folder / "volume.mhd")
    [found] = list_inputs(["volume.mhd"])
    assert [Path(file).suffix for file in found.files] == [".mhd", ".raw"]
    before = content_hash(found.files)
    voxels = Path(found.files[1])
    voxels.write_bytes(bytes(voxels.stat().st_size))
    assert content_hash(found.files) != before
    assert header.exists()


def test_one_file_has_the_sha256_of_its_bytes(folder):
    assert content_hash(["a.png"]) == hashlib.sha256((folder / "a.png").read_bytes()).hexdigest()


def test_results_of_an_earlier_run_are_no_inputs(folder):
    (folder / "out").mkdir()
    Image.new("L", (8, 8)).save(folder / "out" / "scan_overlay.png")
    assert [found.name for found in list_inputs(["."], without=folder / "out")] == ["a.png", "sub/b.png"]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a/scan.nii.gz", "scan"),
        ("s3://bucket/a/scan.png", "scan"),
        ("a/1.2.840.113619.2", "1.2.840.113619.2"),
        ("a/IM0001 (+6)", "IM0001 (+6)"),
        ("s3://bucket", "bucket"),
        (".", "input"),
        ("a/sc\udcff.png", "sc_"),
        ("a/" + "é" * 125 + ".png", "é" * 80),
    ],
)
def test_what_result_files_begin_with(name, stem):
    assert Input(name, (name,)).stem == stem


def test_an_unreadable_file_is_an_error_that_names_it(folder):
    with pytest.raises(InputError, match=r"^gone\.png: no such file; expected"):
        content_hash(["gone.png"])


def test_a_deflated_file_is_not_unpacked_to_be_listed(tmp_path):
    """A small one may hold gigabytes; its reader measures it first."""
    (content,) = bombs._deflated_dicom().files.values()
    (tmp_path / "scan.dcm").write_bytes(content)
    assert read_dicom_header(str(tmp_path / "scan.dcm")) is None
    assert [found.files for found in list_inputs([str(tmp_path)])] == [(str(tmp_path / "scan.dcm"),)]
