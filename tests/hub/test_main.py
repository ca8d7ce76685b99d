import json

import pytest

from hub import Release
from hub.__main__ import main
from hub.card import figures_table, model_card

README = "<!-- sources -->\n<!-- /sources -->\n<!-- figures -->\n<!-- /figures -->\n"


def test_verify_says_what_it_checked(release_folder, capsys):
    assert main(["verify", str(release_folder)]) == 0
    out = capsys.readouterr().out
    size = sum(path.stat().st_size for path in release_folder.rglob("*") if path.is_file())
    size -= (release_folder / "manifest.json").stat().st_size
    assert out == f"{release_folder}: version 0.1.0, 5 files, {size} bytes, all as listed\n"


def test_verify_names_every_fault(release_folder, capsys):
    (release_folder / "onnx/int8/detector.onnx").write_bytes(b"INT8 detector")
    (release_folder / "onnx/int8/mask_decoder.onnx").unlink()
    (release_folder / "onnx/int8/extra.onnx").touch()
    (release_folder / "README.md").touch()
    assert main(["verify", str(release_folder)]) == 2
    faults = capsys.readouterr().err.splitlines()
    assert [fault.split(": ")[0].split("release/")[1] for fault in faults] == [
        "onnx/int8/extra.onnx",
        "onnx/int8/detector.onnx",
        "onnx/int8/mask_decoder.onnx",
    ]


def test_card_and_readme(release_folder, tmp_path):
    (tmp_path / "README.md").write_text(README)
    assert main(["card", str(release_folder), "--readme", str(tmp_path / "README.md")]) == 0
    release = Release.open(release_folder)
    assert (release_folder / "README.md").read_text() == model_card(release)
    assert figures_table(release.manifest) in (tmp_path / "README.md").read_text()


def test_figures_reach_manifest_card_and_readme(release_folder, tmp_path):
    (tmp_path / "README.md").write_text(README)
    figures = {"split": "test", "int8": {"macro": {"dice": 0.123}}}
    (tmp_path / "figures.json").write_text(json.dumps(figures))
    assert (
        main(["figures", str(release_folder), str(tmp_path / "figures.json"), "--readme", str(tmp_path / "README.md")])
        == 0
    )
    assert Release.open(release_folder).manifest["figures"] == figures
    for path in (release_folder / "README.md", tmp_path / "README.md"):
        assert "| **mean over sources** | | | 0.123 | - | - |" in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["verify", "nowhere"], "'nowhere': no such folder"),
        (["card", "nowhere"], "nowhere/manifest.json: no such file"),
        (["figures", "RELEASE", "nowhere.json"], "nowhere.json"),
        (["figures", "RELEASE", "RELEASE/onnx/int8/detector.onnx"], "detector.onnx: not valid JSON"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_faults_are_one_line_and_exit_code_2(release_folder, capsys, arguments, says):
    assert main([argument.replace("RELEASE", str(release_folder)) for argument in arguments]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
