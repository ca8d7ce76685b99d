"""Which scans a user's words name, and what their results are called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from pipeline.inputs import SUPPORTED_SUFFIXES, find_scans, output_names

DICOM = Path(get_testdata_file("MR_small.dcm", download=False)).read_bytes()

#: A folder as users have them.
TREE = {
    "b.png": b"x",
    "a.JPG": b"x",
    "notes.txt": b"x",
    ".hidden.png": b"x",
    ".cache/thumb.png": b"x",
    "p10/scan.nii.gz": b"x",
    "p10/IM0001": DICOM,
    "p10/1.2.840.113619": DICOM,
    "p10/DICOMDIR": DICOM,
    "p2/scan.dcm": b"x",
    "p2/scan.dcm.json": b"{}",
    "empty/readme.md": b"x",
}


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    for name, content in TREE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


WHOLE_TREE = ["a.JPG", "b.png", "p10/1.2.840.113619", "p10/IM0001", "p10/scan.nii.gz", "p2/scan.dcm"]


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        pytest.param(["."], WHOLE_TREE, id="folder"),
        pytest.param(["p2", "a.JPG"], ["p2/scan.dcm", "a.JPG"], id="order-given"),
        pytest.param(["notes.txt", ".hidden.png"], ["notes.txt", ".hidden.png"], id="named-files-are-taken"),
        pytest.param(["*.png"], ["b.png"], id="pattern"),
        pytest.param(["p*"], WHOLE_TREE[2:], id="pattern-of-folders"),
        pytest.param(["**/scan*"], ["p10/scan.nii.gz", "p2/scan.dcm"], id="recursive-pattern"),
        pytest.param(["p2", "p2/scan.dcm", "./p2/../p2/scan.dcm", "p?"], ["p2/scan.dcm"], id="each-once"),
        pytest.param([], [], id="nothing"),
    ],
)
def test_found(tree, paths, found):
    scans, errors = find_scans(paths)
    assert [str(scan) for scan in scans] == found
    assert errors == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param("missing.png", "missing.png: no such file or folder; expected", id="missing"),
        pytest.param("x*.png", "x*.png: a pattern that matches no scan; expected", id="pattern"),
        pytest.param("*.txt", "*.txt: a pattern that matches no scan; expected", id="pattern-of-others"),
        pytest.param("empty", "empty: a folder without any scan; expected", id="empty-folder"),
        pytest.param("dangling.png", "dangling.png: no such file or folder; expected", id="dangling-link"),
    ],
)
def test_a_bad_path_is_reported_and_the_others_are_found(tree, path, message):
    (tree / "dangling.png").symlink_to("gone.png")
    scans, errors = find_scans(["b.png", path, "a.JPG"])
    assert [scan.name for scan in scans] == ["b.png", "a.JPG"]
    assert [str(error).startswith(message) for error in errors] == [True]


def test_a_name_with_a_patterns_characters_is_a_name(tree):
    (tree / "scan[1].png").write_bytes(b"x")
    assert [str(scan) for scan in find_scans(["scan[1].png"])[0]] == ["scan[1].png"]


def test_links_to_folders_are_not_followed_in_circles(tree):
    (tree / "p2" / "again").symlink_to(tree)
    assert [str(scan) for scan in find_scans(["p2"])[0]] == ["p2/scan.dcm"]


def test_folder_that_may_not_be_read(tree):
    (tree / "p2").chmod(0)
    user = os.geteuid()
    if user == 0:  # root may read everything
        for folder in (tree, *tree.parents[:2]):
            folder.chmod(0o755)
        os.seteuid(65534)
    try:
        scans, errors = find_scans(["."])
    finally:
        os.seteuid(user)
        (tree / "p2").chmod(0o755)
    assert [str(scan) for scan in scans] == WHOLE_TREE[:-1]
    assert [str(error).split(";")[0] for error in errors] == ["./p2: can't be searched (Permission denied)"]


def test_suffixes():
    assert {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".nii", ".nii.gz"} <= set(SUPPORTED_SUFFIXES)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param({"in/a.png": "a", "in/b.dcm": "b"}, id="different-stems"),
        pytest.param({"in/left/scan.png": "left/scan", "in/right/scan.png": "right/scan"}, id="same-stem"),
        pytest.param({"in/left/scan.png": "left/scan", "in/right/scan.dcm": "right/scan"}, id="other-suffix"),
        pytest.param({"in/scan.png": "scan", "in/deep/er/scan.png": "deep/er/scan"}, id="one-above"),
        pytest.param({"in/x/a.png": "x/a", "in/y/a.png": "y/a", "in/y/b.png": "b"}, id="only-those-that-clash"),
        pytest.param({"in/a.png": "a_png", "in/a.dcm": "a_dcm"}, id="same-folder"),
        pytest.param({"in/a.nii.gz": "a_nii_gz", "in/a.nii": "a_nii"}, id="nii-gz"),
        pytest.param({"in/a.nii.gz": "a"}, id="nii-gz-alone"),
        pytest.param({"in/a.png": "a_png", "in/a": "a", "in/p/a.png": "p/a"}, id="both"),
        pytest.param({"in/1.2.840.1": "1.2.840.1", "in/1.2.840.2": "1.2.840.2"}, id="uid"),
        pytest.param({"in/A.PNG": "A", "in/.png": ".png"}, id="upper-case-and-no-stem"),
        pytest.param({"../x/a.png": "x/a", "in/a.png": "main/in/a"}, id="above-the-current-folder"),
        pytest.param(
            {"in/a_png.dcm": "a_png", "in/a.png": "a_png_2", "in/a.dcm": "a_dcm"}, id="clash-of-the-flat-name"
        ),
        pytest.param({}, id="nothing"),
    ],
)
def test_output_names(names, tmp_path, monkeypatch):
    (tmp_path / "main").mkdir()
    monkeypatch.chdir(tmp_path / "main")
    found = output_names([Path(name) for name in names])
    assert {str(path): name.as_posix() for path, name in found.items()} == names
    assert list(found) == [Path(name) for name in names]


def test_output_names_never_clash_and_never_leave_their_folder():
    paths = [Path(folder, stem + suffix) for folder in ("/a", "/a/b", "c", "../c", "/") for stem in ("x", "x_png")
             for suffix in ("", ".png", ".dcm", ".nii", ".nii.gz")]  # fmt: skip
    names = list(output_names(paths).values())
    assert len(set(names)) == len(paths)
    assert not any(name.is_absolute() or ".." in name.parts for name in names)
