import pytest

from hub.files import replace_file, replace_path


@pytest.mark.parametrize(
    ("mode", "content", "expected"),
    [("w", "grün\n", "grün\n".encode()), ("wb", b"\x00\xff", b"\x00\xff")],
    ids=["text is UTF-8", "bytes"],
)
def test_content_takes_the_place_of_the_old(tmp_path, mode, content, expected):
    path = tmp_path / "result.json"
    path.write_bytes(b"old")
    with replace_file(path, mode) as file:
        file.write(content)
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == expected
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [None, b"old"], ids=["new file", "old file"])
def test_stopped_run_leaves_nothing_half_written(tmp_path, stop, old):
    path = tmp_path / "result.json"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(stop), replace_file(path) as file:
        file.write("half")
        raise stop
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == ({"result.json": old} if old else {})


def test_temporary_path_keeps_suffixes_and_folder(tmp_path):
    path = tmp_path / ("s" * 240 + ".nii.gz")
    with replace_path(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"volume")
    assert path.read_bytes() == b"volume"


def test_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").touch()
    with replace_file(tmp_path / "ours") as file:
        file.write("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_other_modes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="mode 'a'"), replace_file(tmp_path / "x", "a"):
        pass
