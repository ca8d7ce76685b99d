"""Several files and archives become the folder that `read_stack` takes; nothing is written outside of it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from page.stack_upload import upload
from pipeline.errors import InputError


def uploaded(folder: Path, *names: str) -> list[Path]:
    """Each in a folder of its own, as gradio keeps uploads."""
    paths = []
    for number, name in enumerate(names):
        paths.append(folder / str(number) / name)
        paths[-1].parent.mkdir()
        paths[-1].write_text(f"{number} {name}")
    return paths


def zipped(folder: Path, *names: str) -> Path:
    path = folder / "series.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(name, f"{number} {name}")
    return path


def test_one_file_stays_where_it_is(tmp_path):
    [path] = uploaded(tmp_path, "scan.nii.gz")
    with upload([path]) as given:
        assert given == path


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(["2.png", "10.png"], ["10.png", "2.png"], id="frames keep their names"),
        pytest.param(["a.dcm", "a.dcm"], ["00000_a.dcm", "00001_a.dcm"], id="the same name twice"),
    ],
)
def test_several_files_lie_in_one_folder_that_goes_away(tmp_path, names, expected):
    paths = uploaded(tmp_path, *names)
    with upload(paths) as folder:
        assert sorted(path.name for path in folder.iterdir()) == expected
        assert {path.read_text() for path in folder.iterdir()} == {path.read_text() for path in paths}
    assert not folder.exists()
    assert all(path.exists() for path in paths)


def test_an_archive_is_unpacked_flat_and_nowhere_else(tmp_path):
    path = zipped(
        tmp_path, "CT/1.dcm", "CT/2.dcm", "../../escaped.dcm", "/root.dcm", "__MACOSX/CT/._1.dcm", "CT/.DS_Store"
    )
    with upload([path]) as folder:
        assert folder.name == "series"
        assert sorted(each.name for each in folder.iterdir()) == ["1.dcm", "2.dcm", "escaped.dcm", "root.dcm"]
    assert [each.name for each in tmp_path.iterdir()] == ["series.zip"]


def test_an_archive_that_holds_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("page.stack_upload._MOST_FILES", 2)
    monkeypatch.setattr("page.stack_upload._MOST_BYTES", 20)
    with (
        pytest.raises(InputError, match=r"series.zip: a ZIP of 3 files; expected at most 2"),
        upload([zipped(tmp_path, "1", "2", "3")]),
    ):
        pass
    with pytest.raises(InputError, match="a ZIP of a large series"), upload([zipped(tmp_path, "1" * 30)]):
        pass


def test_a_damaged_archive_is_refused(tmp_path):
    path = zipped(tmp_path, "1.dcm", "2.dcm")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match="a ZIP that is damaged or encrypted"), upload([path]):
        pass
