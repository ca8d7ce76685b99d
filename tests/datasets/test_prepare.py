"""`prepare`: canvases, splits, sequences, resuming, and the same bytes every time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="prepare belongs to the build environment")

from PIL import Image
from pycocotools import mask as coco_mask

from pipeline.cli import main
from pipeline.datasets import CLASSES, Sample, read_source
from pipeline.datasets.nih_chestxray14 import FINDINGS
from pipeline.datasets.prepare import prepare, split_by_patient
from pipeline.errors import InputError
from tests.datasets import layouts
from tests.datasets.layouts import BOX, picture, rectangles

pytestmark = pytest.mark.training

ROOT = Path(__file__).parents[2]


def read_split(out: Path, split: str) -> dict:
    return json.loads((out / f"{split}.json").read_text())


def images_of(out: Path) -> dict[str, dict]:
    """{name of the canvas: its entry and `split`} of all three files."""
    splits = ("train", "val", "test")
    return {Path(i["file_name"]).stem: {**i, "split": s} for s in splits for i in read_split(out, s)["images"]}


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def identities(folder: Path, pattern: str) -> dict[str, tuple[int, int]]:
    """What changes when a file is written anew, even with the same bytes."""
    return {str(p): (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.rglob(pattern)}


def many(folder: Path, patients: int, each: int = 2) -> Path:
    """A COCO set of small images, `each` a patient, with a region in every one."""
    images = []
    for number in range(patients * each):
        name = f"{number:04d}.png"
        layouts.save_image(folder / "images" / name, picture(number))
        images.append({"id": number, "file_name": name, "patient": f"p{number // each:03d}"})
    regions = [{"image_id": image["id"], "bbox": [4, 6, 10, 6]} for image in images]
    layouts.coco(folder / "own.json", regions, images)
    return folder


@pytest.fixture(scope="module")
def all_kinds(tmp_path_factory) -> tuple[list[Path], Path, str]:
    """(sources, OUT, summary) of a colour and a grey set, volumes, and boxes without masks."""
    folder = tmp_path_factory.mktemp("all")
    writers = (layouts.lgg, layouts.sunnybrook, layouts.hippocampus, layouts.nih)
    sources = [write(folder / write.__name__) for write in writers]
    return sources, folder / "out", prepare(sources, folder / "out", workers=2)


def test_canvas_keeps_the_aspect_ratio(tmp_path):
    prepare([layouts.kvasir(tmp_path / "kvasir")], tmp_path / "out", workers=1)
    image = images_of(tmp_path / "out")["cju0ccc"]
    assert {key: image[key] for key in ("file_name", "width", "height", "content", "original_size")} == {
        "file_name": "images/kvasir/cju0ccc.png",
        "width": 640,
        "height": 640,
        "content": [0, 53, 640, 586],  # 24x20 becomes 640x533
        "original_size": [24, 20],
    }
    assert [image[key] for key in ("source", "modality", "patient", "series", "slice_index", "split")] == [
        *("kvasir", "colonoscopy", "8", None, None, "train"),
    ]
    with Image.open(tmp_path / "out" / image["file_name"]) as file:
        canvas = np.asarray(file)
    inner = Image.fromarray(picture(2)).resize((640, 533), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(canvas[53:586], np.asarray(inner))
    assert not canvas[:53].any()
    assert not canvas[586:].any()


def test_regions_move_with_their_image(tmp_path):
    prepare([layouts.kvasir(tmp_path / "kvasir")], tmp_path / "out", workers=1)
    content = read_split(tmp_path / "out", "train")
    [annotation] = content["annotations"]
    assert (annotation["image_id"], annotation["category_id"]) == (content["images"][0]["id"], 5)
    # BOX = (4, 6, 14, 12), times 640 / 24 and 533 / 20, down by 53
    assert annotation["bbox"] == [106.67, 212.9, 266.67, 159.9]
    assert annotation["segmentation"]["size"] == [640, 640]
    mask = coco_mask.decode(annotation["segmentation"])
    expected = np.zeros((640, 640), np.uint8)
    expected[213:373, 107:373] = 1
    assert np.abs(mask.astype(int) - expected).sum() <= 2 * (160 + 267)  # half pixels at the rim
    assert annotation["area"] == mask.sum()


def test_grey_images_are_stored_grey(all_kinds):
    _, out, _ = all_kinds
    modes = {}
    for image in images_of(out).values():
        with Image.open(out / image["file_name"]) as file:
            modes.setdefault(image["source"], []).append(file.mode)
    assert modes == {"lgg": ["RGB"] * 4, "sunnybrook": ["L", "L", "RGB"], "hippocampus": ["L"] * 3, "nih": ["L"] * 2}


def samples_of(patients: list[str], split: str | None = None) -> tuple[Sample, ...]:
    return tuple(Sample(f"{p}_{n}", p, lambda: None, split) for p in patients for n in range(3))


@pytest.mark.parametrize(
    ("patients", "train", "val", "test"),
    [(1, 1, 0, 0), (2, 1, 1, 0), (3, 2, 1, 0), (5, 4, 1, 0), (10, 7, 2, 1), (20, 14, 4, 2), (1000, 700, 200, 100)],
)
def test_split_shares(patients, train, val, test):
    samples = samples_of([f"p{number}" for number in range(patients)])
    splits = split_by_patient(samples)
    by_patient = {(sample.patient, splits[sample.name]) for sample in samples}
    assert len(by_patient) == patients  # nobody is in two splits
    counts = Counter(split for _, split in by_patient)
    assert (counts["train"], counts["val"], counts["test"]) == (train, val, test)


def test_split_depends_on_the_seed_alone():
    samples = samples_of([f"p{number}" for number in range(40)])
    assert split_by_patient(samples, 0) == split_by_patient(samples[::-1], 0)
    assert split_by_patient(samples, 0) != split_by_patient(samples, 1)


def test_split_of_the_source_wins():
    samples = samples_of(["a", "b"], "test") + samples_of([f"p{number}" for number in range(10)])
    splits = split_by_patient(samples)
    assert {splits[f"{patient}_{n}"] for patient in "ab" for n in range(3)} == {"test"}
    free = Counter(splits[sample.name] for sample in samples[6:])
    assert free == {"train": 21, "val": 6, "test": 3}


def test_patient_with_a_split_for_some_images_stays_whole():
    samples = samples_of(["a"], "test")[:1] + samples_of(["a", *(f"p{number}" for number in range(10))])[1:]
    splits = split_by_patient(samples)
    assert [splits[f"a_{n}"] for n in range(3)] == ["test"] * 3


def test_patient_in_two_splits_is_refused():
    samples = samples_of(["a"], "test")[:1] + samples_of(["a"], "train")[1:]
    with pytest.raises(
        InputError, match=r"patient a \(a_1\): in test and in train; expected each patient in one split"
    ):
        split_by_patient(samples)


def test_splits_csv_wins(all_kinds):
    _, out, _ = all_kinds
    splits = {name: image["split"] for name, image in images_of(out).items()}
    assert splits["TCGA_CS_4941_19960909_001"] == "train"
    assert splits["TCGA_DU_5849_19950405_010"] == "test"
    assert {splits[f"hippocampus_001_{index:03d}"] for index in range(3)} == {"val"}


def test_sequences_keep_their_order(all_kinds):
    _, out, _ = all_kinds
    order = [
        (image["series"], image["slice_index"])
        for split in ("train", "val", "test")
        for image in read_split(out, split)["images"]
        if image["series"]
    ]
    assert order == [
        ("TCGA_CS_4941_19960909", 1),
        ("TCGA_CS_4941_19960909", 2),
        ("TCGA_CS_4941_19970101", 1),
        ("hippocampus_001", 0),
        ("hippocampus_001", 1),
        ("hippocampus_001", 2),
        ("TCGA_DU_5849_19950405", 10),
        ("SC-HF-I-01_slice00", 0),
        ("SC-HF-I-01_slice01", 2),
    ]


def test_nih_gives_boxes_without_masks(all_kinds):
    _, out, _ = all_kinds
    found = {}
    for split in ("train", "val", "test"):
        content = read_split(out, split)
        names = {category["id"]: category["name"] for category in content["categories"]}
        sources = {image["id"]: image["source"] for image in content["images"]}
        for annotation in content["annotations"]:
            if sources[annotation["image_id"]] == "nih":
                assert annotation["segmentation"] == []
                found[names[annotation["category_id"]]] = annotation["bbox"]
    assert found == {  # 1024 and 512 pixels become 640
        "Atelectasis": [140.94, 341.88, 54.22, 49.53],
        "Pneumothorax": [625.0, 625.0, 15.0, 15.0],
        "Effusion": [428.75, 82.19, 115.62, 195.62],
    }


@pytest.mark.parametrize(
    ("writers", "names"),
    [
        pytest.param([layouts.kvasir], CLASSES, id="release-ids-although-one-class"),
        pytest.param([layouts.nih], FINDINGS, id="nih-own-set"),
        pytest.param([layouts.nih, layouts.kvasir], (*FINDINGS, "polyp"), id="mixed"),
        pytest.param([lambda folder: many(folder, 1)], ("node", "cyst"), id="users-own"),
    ],
)
def test_categories(tmp_path, writers, names):
    sources = [write(tmp_path / str(number)) for number, write in enumerate(writers)]
    prepare(sources, tmp_path / "out", workers=1)
    for split in ("train", "val", "test"):
        categories = read_split(tmp_path / "out", split)["categories"]
        assert [(c["id"], c["name"]) for c in categories] == list(enumerate(names, start=1))


def test_ids_are_unique_and_refer_to_images_of_the_file(tmp_path):
    prepare([many(tmp_path / "many", 20)], tmp_path / "out", workers=2)
    sizes = []
    for split in ("train", "val", "test"):
        content = read_split(tmp_path / "out", split)
        images, annotations = content["images"], content["annotations"]
        sizes.append(len(images))
        assert [i["id"] for i in images] == [a["id"] for a in annotations] == list(range(1, len(images) + 1))
        assert [a["image_id"] for a in annotations] == [i["id"] for i in images]
    assert sizes == [28, 8, 4]


def test_summary(all_kinds):
    _, out, summary = all_kinds
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in summary.splitlines()]
    assert rows[0] == ["source", "modality", "classes", "train", "val", "test", "patients", "regions",
                       "images without any", "missing"]  # fmt: skip
    assert rows[2] == ["lgg", "brain MRI", "brain_tumor", "3", "0", "1", "2", "4", "0", "0"]
    assert rows[3] == ["sunnybrook", "cardiac MRI", "left_ventricle", "0", "0", "3", "1", "3", "0", "0"]
    assert rows[4] == ["hippocampus", "MRI", "hippocampus", "0", "3", "0", "1", "1", "2", "1"]
    assert rows[5] == ["nih", "chest X-ray", ", ".join(FINDINGS), "1", "1", "0", "2", "3", "0", "1"]
    assert (out / "summary.md").read_text() == summary


def test_contact_sheet(all_kinds):
    _, out, _ = all_kinds
    with Image.open(out / "contact_sheet.png") as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape == (4 * 160, 8 * 160, 3)
    shown = pixels.reshape(4, 160, 8, 160, 3).any((1, 3, 4))
    # a row a source: 4, 3, 1 and 2 images with regions
    assert shown.sum(1).tolist() == [4, 3, 1, 2]
    outline = (np.abs(pixels.astype(int) - (230, 159, 0)).max(-1) < 30).reshape(4, 160, 8, 160).sum((1, 3))
    assert (outline[shown] > 15).all()


def test_second_run_rewrites_nothing(tmp_path):
    source, out = many(tmp_path / "many", 20), tmp_path / "out"
    prepare([source], out, workers=2)
    written = [identities(out / "images", "*.png"), identities(out / "records", "*.json")]
    assert [len(names) for names in written] == [40, 2]
    content = files_of(out)
    prepare([source], out, workers=2)
    assert [identities(out / "images", "*.png"), identities(out / "records", "*.json")] == written
    assert files_of(out) == content


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_same_input_gives_the_same_bytes(all_kinds, tmp_path, workers):
    sources, out, _ = all_kinds
    prepare(sources, tmp_path / "again", workers=workers)
    assert files_of(tmp_path / "again") == files_of(out)


def test_killed_run_goes_on(tmp_path):
    source, whole, killed = many(tmp_path / "many", 64), tmp_path / "whole", tmp_path / "killed"
    prepare([source], whole, workers=2)
    command = [sys.executable, "-m", "pipeline", "prepare", str(source), "--out", str(killed), "--workers", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while len(done := identities(killed / "records", "images_*.json")) < 1:
            assert time.monotonic() < deadline
            assert process.poll() is None, process.stderr.read().decode()
            time.sleep(0.005)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert not (killed / "train.json").exists()
    assert len(identities(killed / "records", "images_*.json")) < 4

    prepare([source], killed, workers=2)
    assert identities(killed / "records", "images_*.json").items() >= done.items()
    left_by_the_kill = {name for name in files_of(killed) if Path(name).name.startswith(".")}
    assert {name: data for name, data in files_of(killed).items() if name not in left_by_the_kill} == files_of(whole)


def test_source_that_grew(tmp_path):
    source = layouts.nih(tmp_path / "nih")
    second = source / "images_002"
    second.rename(tmp_path / "not_downloaded_yet")
    prepare([source], tmp_path / "out", workers=1)
    assert len(images_of(tmp_path / "out")) == 1

    (tmp_path / "not_downloaded_yet").rename(second)
    summary = prepare([source], tmp_path / "out", workers=1)
    assert len(images_of(tmp_path / "out")) == 2
    assert summary == prepare([source], tmp_path / "fresh", workers=1)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "fresh")


def test_region_that_vanishes_on_the_canvas_is_left_out(tmp_path):
    size = {"width": 6400, "height": 100}
    layouts.kvasir(tmp_path / "kvasir")
    layouts.save_image(tmp_path / "kvasir" / "images" / "cju0ccc.png", picture(0, **size))
    thin = rectangles((11, 30, 12, 90), (200, 20, 230, 50), **size)  # the first will be a tenth of a pixel wide
    layouts.save_image(tmp_path / "kvasir" / "masks" / "cju0ccc.png", thin)
    prepare([tmp_path / "kvasir"], tmp_path / "out", workers=1)
    [annotation] = read_split(tmp_path / "out", "train")["annotations"]
    assert (annotation["bbox"], annotation["area"]) == ([20.0, 317.0, 3.0, 3.0], 9)


def test_prepared_data_reads_back(all_kinds, tmp_path):
    _, out, _ = all_kinds
    source = read_source(out)
    assert (len(source.samples), source.missing) == (12, ())
    images = images_of(out)
    for sample in source.samples:
        image = images[sample.name.split("__")[-1]]
        assert (sample.patient, sample.split) == (image["patient"], image["split"])
        assert (sample.series, sample.slice_index) == (image["series"], image["slice_index"])
    [lgg] = [sample for sample in source.samples if sample.name.endswith("TCGA_DU_5849_19950405_010")]
    pixels, [region] = lgg.load()
    with Image.open(out / "images" / "lgg" / "TCGA_DU_5849_19950405_010.png") as file:
        np.testing.assert_array_equal(pixels, np.asarray(file))
    [annotation] = [a for a in read_split(out, "test")["annotations"] if a["image_id"] == 1]
    np.testing.assert_array_equal(region.mask, coco_mask.decode(annotation["segmentation"]).astype(bool))
    np.testing.assert_allclose(region.box, np.array(BOX) * ([640 / 24, 533 / 20] * 2) + [0, 53, 0, 53], atol=1)

    prepare([out], tmp_path / "twice", workers=1)
    for split in ("train", "val", "test"):
        once, twice = read_split(out, split), read_split(tmp_path / "twice", split)
        keys = ("patient", "series", "slice_index")
        assert sorted(str([i[k] for k in keys]) for i in once["images"]) == sorted(
            str([i[k] for k in keys]) for i in twice["images"]
        )
        areas = [sorted(a["area"] for a in content["annotations"]) for content in (once, twice)]
        assert areas[0] == pytest.approx(areas[1], rel=1e-4)  # boxes are rounded to 1/100 pixel


def break_image(folder: Path) -> list[str]:
    image = layouts.hc18(folder / "hc18") / "images" / "011_HC.png"
    image.write_bytes(image.read_bytes()[:100])
    return [str(folder / "hc18")]


def same_names(folder: Path) -> list[str]:
    return [str(layouts.hc18(folder / parent / "hc18")) for parent in "ab"]


def out_is_a_file(folder: Path) -> list[str]:
    (folder / "out").write_text("")
    return [str(layouts.hc18(folder / "hc18"))]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        pytest.param(break_image, "{}/hc18/images/011_HC.png: damaged, cut short", id="broken-image"),
        pytest.param(
            same_names, "hc18: 2 data sets of this name; expected folders with different names", id="same-name"
        ),
        pytest.param(out_is_a_file, "{}/out: can't be made (File exists); expected a folder", id="out-is-a-file"),
        pytest.param(lambda folder: [str(folder / "no")], "{}/no: no such file or folder", id="no-such-source"),
        pytest.param(lambda folder: [str(folder)], "{}: not the layout of a known data set", id="unknown-layout"),
    ],
)
def test_refused_in_one_line(tmp_path, capsys, write, message):
    sources = write(tmp_path)
    assert main(["prepare", *sources, "--out", str(tmp_path / "out"), "--workers", "1"]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert message.format(tmp_path) in last
    assert not (tmp_path / "out" / "train.json").is_file()


def test_error_in_a_worker_process_comes_out_whole(tmp_path):
    [source] = break_image(tmp_path)
    with pytest.raises(InputError) as caught:
        prepare([Path(source)], tmp_path / "out", workers=2)
    assert caught.value.subject == str(tmp_path / "hc18" / "images" / "011_HC.png")
