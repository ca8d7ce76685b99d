import hashlib
import json
import os

import pytest

from hub import Release, WeightsError
from hub.release import write_figures, write_manifest
from tests.hub.conftest import CONFIG, FIGURES, FILES, write_files


def change_json(path, *keys, value):
    content = json.loads(path.read_text())
    part = content
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    path.write_text(json.dumps(content))


def relist(folder):
    """Lets the manifest agree with a config that a test changed."""
    config = (folder / "config.json").read_bytes()
    entry = {"bytes": len(config), "sha256": hashlib.sha256(config).hexdigest()}
    change_json(folder / "manifest.json", "files", "config.json", value=entry)


def test_figures_change_the_manifest_but_not_the_digest_of_the_files(release_folder):
    before = Release.open(release_folder)
    after = write_figures(release_folder, {"split": "val"})
    assert after.sha256 != before.sha256
    assert after.files_sha256 == before.files_sha256


def test_open_gives_what_was_written(release_folder):
    release = Release.open(release_folder)
    assert release.version == "0.1.0"
    assert release.config == CONFIG
    assert release.precisions == ("int8", "fp32")
    assert release.manifest["precisions"] == {
        "fp32": {"bytes": 21, "note": "Stored as float16."},
        "int8": {"bytes": 25},
    }
    assert release.manifest["figures"] == FIGURES
    assert release.manifest["created"] == "2026-01-02T03:04:05+00:00"
    assert set(release.manifest["files"]) == {"config.json", *FILES}
    assert release.sha256 == hashlib.sha256((release_folder / "manifest.json").read_bytes()).hexdigest()


@pytest.mark.parametrize("name", FILES)
def test_file_gives_the_verified_path(release_folder, name):
    assert Release.open(release_folder).file(name).read_bytes() == FILES[name]


def flip_byte(path):
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def put_folder(path):
    path.unlink()
    path.mkdir()


def link_out(path):
    outside = path.parents[3] / "outside.onnx"
    os.replace(path, outside)
    path.symlink_to(outside)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        pytest.param(flip_byte, "sha256", id="flipped byte"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes 12, but .* 13", id="truncated"),
        pytest.param(lambda path: path.write_bytes(b""), "bytes 0", id="empty"),
        pytest.param(lambda path: path.unlink(), "no such file", id="missing"),
        pytest.param(put_folder, "can't be read", id="a folder"),
        pytest.param(link_out, "leads out of the release", id="link to the right file outside"),
    ],
)
def test_damaged_file_is_named(release_folder, damage, says):
    release = Release.open(release_folder)
    damage(release_folder / "onnx/int8/detector.onnx")
    with pytest.raises(WeightsError, match=rf"onnx/int8/detector\.onnx: .*{says}"):
        release.file("onnx/int8/detector.onnx")


def test_link_inside_the_release_is_followed(release_folder):
    path = release_folder / "onnx/int8/detector.onnx"
    path.rename(release_folder / "onnx/real.onnx")
    path.symlink_to("../real.onnx")
    assert Release.open(release_folder).file("onnx/int8/detector.onnx").read_bytes() == b"int8 detector"


def test_precision_that_is_not_there_names_those_that_are(release_folder):
    with pytest.raises(WeightsError, match=r"0\.1\.0 has no onnx/fp16/detector\.onnx; it holds int8, fp32\."):
        Release.open(release_folder).file("onnx/fp16/detector.onnx")


@pytest.mark.parametrize("name", ["manifest.json", "config.json"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b'{"schema": 1', "not valid JSON", id="cut off"),
        pytest.param(b"\xff\xfe", "not valid JSON", id="not UTF-8"),
        pytest.param(b"[" * 100_000, "not valid JSON", id="endless nesting"),
        pytest.param(b"[1]", "a JSON list; expected an object", id="a list"),
        pytest.param(b'{"schema": 2}', "schema 2; this version reads schema 1", id="schema of the future"),
        pytest.param(b"{}", "schema None", id="no schema"),
    ],
)
def test_unreadable_json_is_named(release_folder, name, content, says):
    (release_folder / name).write_bytes(content)
    if name == "config.json":
        relist(release_folder)
    with pytest.raises(WeightsError, match=rf"{name}: {says}"):
        Release.open(release_folder)


@pytest.mark.parametrize("name", ["manifest.json", "config.json"])
def test_missing_json_is_named(release_folder, name):
    (release_folder / name).unlink()
    with pytest.raises(WeightsError, match=rf"{name}: no such file"):
        Release.open(release_folder)


def test_config_is_held_to_the_manifest(release_folder):
    change_json(release_folder / "config.json", "detector", "score_threshold", value=0.1)
    with pytest.raises(WeightsError, match=r"config\.json: .*the manifest says"):
        Release.open(release_folder)


@pytest.mark.parametrize(
    "name",
    [
        "../outside.onnx",
        "onnx/../../outside.onnx",
        "/etc/outside.onnx",
        "onnx\\int8\\detector.onnx",
        "C:/outside.onnx",
        "onnx//detector.onnx",
        "./detector.onnx",
        "onnx/.. /detector.onnx",
        "onnx/detector.onnx\n",
        "",
    ],
)
def test_manifest_may_not_name_paths_outside(release_folder, name):
    change_json(release_folder / "manifest.json", "files", name, value={"bytes": 1, "sha256": "0" * 64})
    with pytest.raises(WeightsError, match="not a plain path"):
        Release.open(release_folder)


PICKLES = ["model.pt", "model.pth", "model.PKL", "pytorch_model.bin", "boxes.npy", "last.ckpt", "a.onnx.pt", "noname"]


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_are_refused(release_folder, name):
    (release_folder / name).write_bytes(b"x")
    with pytest.raises(WeightsError, match="not allowed in a release"):
        write_manifest(release_folder, version="0.1.0", revision="abc", trained_on={})
    entry = {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    change_json(release_folder / "manifest.json", "files", name, value=entry)
    with pytest.raises(WeightsError, match="not allowed in a release"):
        Release.open(release_folder)


@pytest.mark.parametrize(
    ("keys", "value", "says"),
    [
        (("version",), "", "version is ''"),
        (("version",), 1, "version is 1"),
        (("files",), [], "files is"),
        (("files", "config.json"), None, "files of config.json is None"),
        (("files", "config.json", "bytes"), -1, "no valid bytes and sha256"),
        (("files", "config.json", "bytes"), True, "no valid bytes and sha256"),
        (("files", "config.json", "sha256"), "abc", "no valid bytes and sha256"),
        (("files",), {}, "does not list config.json"),
        (("figures",), "0.9", "figures is '0.9'"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_manifest_is_checked(release_folder, keys, value, says):
    change_json(release_folder / "manifest.json", *keys, value=value)
    with pytest.raises(WeightsError, match=rf"manifest\.json: .*{says}"):
        Release.open(release_folder)


@pytest.mark.parametrize(
    ("keys", "value", "says"),
    [
        (("classes",), [], "classes is"),
        (("classes", 0), "polyp", "classes is 'polyp'"),
        (("classes", 0, "id"), 0, "class id 0; expected 1 to 254"),
        (("classes", 0, "id"), 255, "class id 255"),
        (("classes", 0, "id"), 2, "share an id or a name"),
        (("classes", 0, "name"), "polyp", "share an id or a name"),
        (("classes", 0, "name"), "", "class name is ''"),
        (("detector",), None, "detector is None"),
        (("detector", "input_size"), 0, "detector.input_size is 0"),
        (("segmenter", "surroundings"), 0.5, "segmenter.surroundings is 0.5"),
        (("segmenter", "resize"), "crop", "segmenter.resize is 'crop'"),
        (("detector", "score_threshold"), 1.5, "score_threshold is 1.5"),
        (("detector", "score_threshold"), None, "score_threshold is None"),
        (("detector", "class_thresholds", "polyp"), True, "class_thresholds.polyp is True"),
        (("detector", "looks"), [], "detector.looks is"),
        (("detector", "looks"), [{"zoom": 0, "mirror": True}], "detector.looks holds"),
        (("detector", "looks"), [{"zoom": 1}], "detector.looks holds"),
        (("detector", "looks"), ["mirror"], "detector.looks holds"),
        (("scope",), {"limit": 0}, "scope.limit is 0"),
        (("scope",), {}, "scope"),
        (("scope",), {"limit": 2, "ratio": 0.5}, "scope.ratio is 0.5"),
        (("scope",), {"limit": 2, "kinds": 3}, "scope.kinds is 3"),
        (("scope",), {"limit": 2, "kinds": ["spleen"]}, "'spleen' is no class of this release"),
        (("scope",), 3, "scope is 3"),
        (("detector", "class_best_shares"), {"polyp": 1.5}, "class_best_shares.polyp is 1.5"),
        (("detector", "class_best_shares"), {"lungs": 0.5}, "'lungs' is no class"),
        (("detector", "class_thresholds", "lungs"), 0.5, "'lungs' is no class .*hippocampus, polyp"),
        (("slicing", "brain"), {"axis": 0}, "'brain' is no class"),
        (("shapes",), {"brain": "convex"}, "'brain' is no class"),
        (("box_ellipse",), {"brain": 1}, "'brain' is no class"),
        (("box_ellipse",), {"hippocampus": -1}, "box_ellipse.hippocampus is -1; expected 0 to 10"),
        (("logit_offset",), {"brain": 1}, "'brain' is no class"),
        (("logit_offset",), {"hippocampus": "-1"}, "logit_offset.hippocampus is '-1'; expected -10 to 10"),
        (("shapes",), {"hippocampus": "square"}, "shapes.hippocampus is 'square'; expected filled, convex, ellipse"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_config_is_checked(release_folder, keys, value, says):
    change_json(release_folder / "config.json", *keys, value=value)
    relist(release_folder)
    with pytest.raises(WeightsError, match=rf"config\.json: .*{says}"):
        Release.open(release_folder)


LONG = "a" * 5000


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("classes", 0, "name"), LONG),
        (("detector", "class_thresholds", "polyp"), LONG),
        (("detector", "class_thresholds", LONG), 0.5),
        (("detector", "looks"), [LONG] * 9),
        (("segmenter", "resize"), LONG),
        (("shapes",), {LONG: "convex"}),
        (("shapes",), {"polyp": LONG}),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_quoted_of_a_config_is_short(release_folder, keys, value):
    change_json(release_folder / "config.json", *keys, value=value)
    relist(release_folder)
    with pytest.raises(WeightsError) as refused:
        Release.open(release_folder)
    assert len(str(refused.value).replace(str(release_folder), "")) < 300


@pytest.mark.parametrize("name", [f"{LONG}.onnx", LONG])
def test_what_is_quoted_of_a_manifest_is_short(release_folder, name):
    change_json(release_folder / "manifest.json", "files", name, value={"bytes": 1, "sha256": "0" * 64})
    with pytest.raises(WeightsError, match="not a plain path") as refused:
        Release.open(release_folder)
    assert len(str(refused.value).replace(str(release_folder), "")) < 300


def test_manifest_lists_neither_card_nor_hidden_nor_itself(tmp_path):
    folder = write_files(tmp_path)
    for name in ("README.md", "manifest.json", ".gitattributes", ".cache/x.pt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("old")
    release = write_manifest(folder, version="0.2.0", revision="abc", trained_on={})
    assert set(release.manifest["files"]) == {"config.json", *FILES}


def test_figures_go_in_and_the_weights_stay(release_folder):
    before = Release.open(release_folder)
    after = write_figures(release_folder, {"split": "test"})
    assert after.manifest == before.manifest | {"figures": {"split": "test"}}
    assert after.sha256 != before.sha256


@pytest.mark.parametrize(
    ("figures", "error"), [({"dice": float("nan")}, ValueError), ([1], WeightsError)], ids=["NaN", "a list"]
)
def test_bad_figures_leave_the_manifest_as_it_was(release_folder, figures, error):
    before = {path.name: path.is_dir() or path.read_bytes() for path in release_folder.iterdir()}
    with pytest.raises(error):
        write_figures(release_folder, figures)
    assert {path.name: path.is_dir() or path.read_bytes() for path in release_folder.iterdir()} == before
