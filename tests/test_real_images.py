"""The command line on real images of all seven classes, as a user runs it: files, labels, time and memory."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import psutil
import pytest
from PIL import Image

from pipeline.scan import read_scan

pytestmark = pytest.mark.data

ROOT = Path(__file__).parents[1]

#: A test image of each class: (folder, file below it); the hippocampus is a slice of a volume, written as 2-D NIfTI.
IMAGES = {
    "brain_tumor": "lgg_mri_tcga/images/{series}/{slice}.jpg",
    "hippocampus": "msd_task04_hippocampus/imagesTr/{volume}.nii.gz",
    "lung": "cxr_lungs_montgomery_shenzhen/images",
    "left_ventricle": "sunnybrook_cardiac_cine/ed_es/images",
    "polyp": "kvasir_seg_polyp/images",
    "fetal_head": "hc18_fetal_head/images",
    "breast_lesion": "busi_breast_us_148/images",
}
EXPECTED_KEYS = ["label", "class_id", "score", "box", "mask_iou", "area_px", "area_mm2", "rle"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three images a class, named after it."""
    if "AUTOMEDSEG_DATA" not in os.environ:
        pytest.skip("AUTOMEDSEG_DATA names no folder")
    data, chosen = Path(os.environ["AUTOMEDSEG_DATA"]), tmp_path_factory.mktemp("images")
    for label, path in IMAGES.items():
        if label == "hippocampus":
            volumes = sorted((data / path).parent.glob("*.nii.gz"))[:3]
            for number, volume in enumerate(volumes):
                values = np.asarray(nibabel.load(volume).dataobj)
                middle = np.ascontiguousarray(values[:, values.shape[1] // 2].astype(np.float32))
                nibabel.Nifti1Image(middle, np.eye(4)).to_filename(chosen / f"{label}_{number}.nii.gz")
            continue
        if label == "brain_tumor":
            masks = sorted((data / "lgg_mri_tcga" / "masks").glob("*/*.png"))
            big = [mask for mask in masks[:400] if read_scan(mask).pixels.any(axis=2).sum() > 2000]
            files = [
                data / "lgg_mri_tcga" / "images" / m.parent.name / f"{m.stem}.jpg" for m in big[:: len(big) // 3][:3]
            ]
        else:
            files = [f for f in sorted((data / path).iterdir()) if not f.name.startswith("normal")][5:8]
        for number, file in enumerate(files):
            (chosen / f"{label}_{number}{file.suffix}").write_bytes(file.read_bytes())
    return chosen


@pytest.fixture(scope="module")
def results(folder, release, tmp_path_factory) -> dict:
    out = tmp_path_factory.mktemp("out")
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "segment",
        str(folder),
        "--out",
        str(out),
        "--weights",
        str(release.folder),
    ]
    peak, said = 0, tmp_path_factory.mktemp("said") / "stderr.txt"
    with said.open("w") as stderr:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=stderr)
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess, subprocess.TimeoutExpired):
                peak = max(peak, watched.memory_info().rss)
                process.wait(0.02)
    return {"out": out, "code": process.returncode, "stderr": said.read_text(), "peak": peak}


def test_every_image_gives_its_three_files(folder, results):
    assert (results["code"], results["stderr"]) == (0, "")
    stems = sorted(path.name.removesuffix(".gz").rsplit(".", 1)[0] for path in folder.iterdir())
    assert len(stems) == 21
    expected = {f"{stem}{ending}" for stem in stems for ending in (".json", "_mask.png", "_overlay.png")}
    assert {path.name for path in results["out"].iterdir()} == expected


def test_files_agree_with_each_other(results):
    for path in results["out"].glob("*.json"):
        found = json.loads(path.read_text())
        with Image.open(path.with_name(f"{path.stem}_mask.png")) as mask:
            ids = set(np.unique(np.asarray(mask)).tolist()) - {0}
        assert ids <= {detection["class_id"] for detection in found["detections"]}
        with Image.open(path.with_name(f"{path.stem}_overlay.png")) as overlay:
            assert overlay.size == (found["width"], found["height"])
        for detection in found["detections"]:
            assert list(detection) == EXPECTED_KEYS
            assert detection["rle"]["size"] == [found["height"], found["width"]]


def test_most_images_show_what_they_hold(results):
    right = {}
    for path in results["out"].glob("*.json"):
        label = path.stem.rsplit("_", 1)[0]
        labels = [detection["label"] for detection in json.loads(path.read_text())["detections"]]
        right[path.stem] = label in labels
    classes_seen = {stem.rsplit("_", 1)[0] for stem, seen in right.items() if seen}
    assert sum(right.values()) >= 0.6 * len(right), right
    assert len(classes_seen) >= 6, right


def test_hardly_any_real_image_is_called_strange(results):
    flags = [json.loads(path.read_text())["out_of_scope"] for path in results["out"].glob("*.json")]
    assert sum(map(bool, flags)) <= 2, flags


def test_time_and_memory(results):
    totals = [json.loads(path.read_text())["timings_ms"]["total"] for path in results["out"].glob("*.json")]
    assert statistics.median(totals) < 500
    assert results["peak"] < 1.5e9
