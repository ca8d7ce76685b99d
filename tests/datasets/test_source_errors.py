"""Data that can't be used: the error names the file (or the line of a list), what is wrong, and what is accepted."""

from __future__ import annotations

import json
import pickle
import re

import nibabel
import numpy as np
import pytest

pytest.importorskip("scipy", reason="the readers belong to the build environment")

from pipeline.datasets import read_source
from pipeline.errors import InputError
from tests.datasets import layouts
from tests.datasets.layouts import picture, rectangles, save_image, save_study, save_table, save_volume

pytestmark = pytest.mark.training

SHAPE = layouts.HIPPOCAMPUS_SHAPE
VOLUME, LABEL = "imagesTr/hippocampus_001.nii.gz", "labelsTr/hippocampus_001.nii.gz"
BRATS, BRATS_NAMES = layouts.BRATS_2020
SEGMENTATION = f"{BRATS}/{BRATS}_seg.nii.gz"
BOXES = "BBox_List_2017.csv"


def cut(name: str, keep: float = 0.5):
    """Cut a file short."""

    def damage(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * keep)])

    return damage


def text(name: str, content: str = "not what the name says, " * 9):
    return lambda folder: (folder / name).write_text(content)


def remove(name: str):
    return lambda folder: (folder / name).unlink()


def mask_of(name: str, width: int, height: int):
    return lambda folder: save_image(folder / name, rectangles(width=width, height=height))


def volume(name: str, values: np.ndarray):
    return lambda folder: save_volume(folder / name, values)


def table(name: str, *rows):
    return lambda folder: save_table(folder / name, *rows)


def description(**changes):
    """Change entries of dataset.json; None removes one."""

    def damage(folder):
        path = folder / "dataset.json"
        content = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return damage


def box_row(row: str):
    return text(BOXES, f"Image Index,Finding Label,Bbox [x,y,w,h],,,\n{row}\n")


def with_nan(shape) -> np.ndarray:
    values = np.ones(shape, np.float32)
    values[0, 0, 0] = np.nan
    return values


def singular(name: str):
    def damage(folder):
        image = nibabel.Nifti1Image(np.ones(layouts.BRATS_SHAPE, np.uint8), None)
        image.header.set_sform(np.diag([0.0, 0, 0, 1]), code="scanner")
        image.to_filename(folder / name)

    return damage


def bad_study(folder):
    study = folder / "cine" / "SC-HF-I-01.npz"
    with np.load(study) as arrays:
        save_study(study, **{name: arrays[name] for name in arrays.files if name != "masks"})


NIH_BOX = r"line 2: box \[.*\]; expected a corner within 1024x1024 pixels and a size above 0"

#: {name: (writer, damage, message)}, {} in the message being the folder.
CASES = {
    # images and masks
    "mask-of-another-size": (
        layouts.lungs,
        mask_of("masks/CHNCXR_0001_0.png", 10, 12),
        r"{}/masks/CHNCXR_0001_0.png: mask of 10x12 pixels; expected 24x20, the size of its image",
    ),
    "mask-absent": (layouts.busi, remove("masks/benign_001.png"), r"{}/masks/benign_001.png: no such file"),
    "text-as-png": (layouts.hc18, text("images/010_2HC.png"), r"{}/images/010_2HC.png: holds text"),
    "text-as-mask": (layouts.kvasir, text("masks/cju0aaa.png"), r"{}/masks/cju0aaa.png: holds text"),
    "truncated-png": (layouts.kvasir, cut("images/cju0aaa.png"), r"{}/images/cju0aaa.png: damaged, cut short"),
    "truncated-tif": (
        layouts.lgg_original,
        cut("TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_1.tif"),
        r"{}/TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_1.tif: damaged, cut short",
    ),
    "empty-png": (layouts.lungs, text("images/CHNCXR_0001_0.png", ""), r"{}/images/CHNCXR_0001_0.png: empty file"),
    "broken-study": (layouts.sunnybrook, text("cine/SC-HF-I-01.npz"), r"{}/cine/SC-HF-I-01.npz: broken study"),
    "truncated-study": (layouts.sunnybrook, cut("cine/SC-HF-I-01.npz"), r"{}/cine/SC-HF-I-01.npz: broken study"),
    "study-without-masks": (
        layouts.sunnybrook,
        bad_study,
        r"{}/cine/SC-HF-I-01.npz: broken study .*; expected an .npz file with the array 'masks'",
    ),
    # lists
    "unknown-split": (
        layouts.lgg,
        table("splits.csv", ["patient", "split"], ["TCGA_CS_4941", "training"]),
        r"{}/splits.csv: unknown split 'training'; expected train, val or test",
    ),
    "splits-without-column": (
        layouts.hc18,
        table("splits.csv", ["patient", "split"], ["010", "train"]),
        r"{}/splits.csv: lacks exam; expected the columns exam, split",
    ),
    "splits-empty": (layouts.lungs, text("splits.csv", ""), r"{}/splits.csv: lacks any row"),
    "splits-not-text": (
        layouts.lungs,
        lambda folder: (folder / "splits.csv").write_bytes(b"\xff\xfe\x00p"),
        r"{}/splits.csv: unreadable table",
    ),
    "groups-without-column": (
        layouts.kvasir,
        table("meta.csv", ["image", "group"], ["cju0aaa", "7"]),
        r"{}/meta.csv: lacks neardup_group",
    ),
    # the Decathlon
    "truncated-gz": (layouts.hippocampus, cut(VOLUME), r"{}/imagesTr/hippocampus_001.nii.gz: broken volume"),
    "gz-cut-in-its-header": (layouts.hippocampus, cut(VOLUME, 0.02), r"{}/imagesTr/hippocampus_001.nii.gz: broken"),
    "empty-gz": (layouts.hippocampus, cut(LABEL, 0), r"{}/labelsTr/hippocampus_001.nii.gz: broken volume"),
    "text-as-nifti": (layouts.hippocampus, text(VOLUME), r"{}/imagesTr/hippocampus_001.nii.gz: broken volume"),
    "nan": (
        layouts.hippocampus,
        volume(VOLUME, with_nan(SHAPE)),
        r"{}/imagesTr/hippocampus_001.nii.gz: holds NaN or infinite values",
    ),
    "label-volume-of-another-shape": (
        layouts.hippocampus,
        volume(LABEL, np.zeros((12, 3, 9), np.uint8)),
        r"{}/labelsTr/hippocampus_001.nii.gz: label volume \(12, 3, 9\); expected \(12, 3, 10\), the shape of "
        r"hippocampus_001.nii.gz",
    ),
    "unknown-label": (
        layouts.hippocampus,
        volume(LABEL, np.full(SHAPE, 7, np.uint8)),
        r"{}/labelsTr/hippocampus_001.nii.gz: unknown label 7; expected 0 or 1, 2 of dataset.json",
    ),
    "unlisted-channels": (
        layouts.hippocampus,
        volume(VOLUME, np.ones((*SHAPE, 2), np.float32)),
        r"{}/imagesTr/hippocampus_001.nii.gz: 2 channels; expected 1, as dataset.json lists under modality",
    ),
    "flat-image": (layouts.hippocampus, volume(VOLUME, np.ones((12, 10), np.float32)), r"{}/imagesTr/.*: 2-D image"),
    "truncated-json": (layouts.hippocampus, cut("dataset.json"), r"{}/dataset.json: unreadable"),
    "json-without-labels": (layouts.hippocampus, description(labels=None), r"{}/dataset.json: lacks labels"),
    "labels-the-other-way-round": (
        layouts.hippocampus,
        description(labels={"background": 0, "Anterior": 1}),
        r"{}/dataset.json: holds 'background'; expected the Decathlon's dataset.json: name, labels {{value: name}}",
    ),
    "training-entry-without-label": (
        layouts.hippocampus,
        description(training=[{"image": "./imagesTr/a.nii.gz"}]),
        r"{}/dataset.json: holds {{'image': './imagesTr/a.nii.gz'}}",
    ),
    # BraTS
    "brats-unknown-label": (
        layouts.brats_case,
        volume(SEGMENTATION, np.full(layouts.BRATS_SHAPE, 3, np.uint8)),
        rf"{{}}/{SEGMENTATION}: unknown label 3; expected 0 or 1 or 2 or 4",
    ),
    "brats-2023-unknown-label": (
        lambda folder: layouts.brats_case(folder, layouts.BRATS_2023, labels=layouts.brats_labels(4)),
        lambda folder: None,
        r"{}/BraTS-GLI-00005-001/BraTS-GLI-00005-001-seg.nii.gz: unknown label 4; expected 0 or 1 or 2 or 3",
    ),
    "brats-segmentation-of-another-shape": (
        layouts.brats_case,
        volume(SEGMENTATION, np.zeros((24, 20, 4), np.uint8)),
        rf"{{}}/{SEGMENTATION}: label volume \(24, 20, 4\); expected \(24, 20, 3\), the shape of {BRATS}_t1.nii.gz",
    ),
    "brats-truncated": (
        layouts.brats_case,
        cut(f"{BRATS}/{BRATS}_flair.nii.gz"),
        rf"{{}}/{BRATS}/{BRATS}_flair.*: broken",
    ),
    "brats-4d": (
        layouts.brats_case,
        volume(SEGMENTATION, np.ones((4, 4, 4, 2), np.uint8)),
        rf"{{}}/{SEGMENTATION}: 4-D image \(4, 4, 4, 2\); expected a 3-D volume",
    ),
    "brats-singular-affine": (
        layouts.brats_case,
        singular(SEGMENTATION),
        rf"{{}}/{SEGMENTATION}: its affine is singular",
    ),
    # NIH
    "nih-missing-column": (
        layouts.nih,
        text(BOXES, "Image Index,Bbox [x,y,w,h],,,\n"),
        r"{}/BBox_List_2017.csv: columns 'Image Index,Bbox \[x,y,w,h\],,,'; expected the columns Image Index,",
    ),
    "nih-empty": (layouts.nih, text(BOXES, ""), r"{}/BBox_List_2017.csv: columns ''"),
    "nih-nan": (layouts.nih, box_row("00013118_008.png,Mass,nan,1,2,3,,,"), NIH_BOX),
    "nih-infinite": (layouts.nih, box_row("00013118_008.png,Mass,1,1,inf,3,,,"), NIH_BOX),
    "nih-negative": (layouts.nih, box_row("00013118_008.png,Mass,-1,1,2,3,,,"), NIH_BOX),
    "nih-no-width": (layouts.nih, box_row("00013118_008.png,Mass,1,1,0,3,,,"), NIH_BOX),
    "nih-beyond-image": (layouts.nih, box_row("00013118_008.png,Mass,1024,1,5,3,,,"), NIH_BOX),
    "nih-no-number": (
        layouts.nih,
        box_row("00013118_008.png,Mass,1,one,2,3"),
        r"line 2: box .*; expected four numbers",
    ),
    "nih-short-row": (layouts.nih, box_row("00013118_008.png,Mass,1,1,2"), r"line 2: 5 values; expected the six"),
    "nih-unknown-finding": (
        layouts.nih,
        box_row("00013118_008.png,Hernia,1,1,2,3"),
        r"{}/BBox_List_2017.csv: line 2: unknown finding 'Hernia'; expected one of Atelectasis, ",
    ),
    "nih-odd-name": (layouts.nih, box_row("x.png,Mass,1,1,2,3"), r"line 2: image 'x.png'; expected a name like"),
    "nih-broken-image": (
        layouts.nih,
        cut("images_001/images/00013118_008.png"),
        r"{}/images_001/images/00013118_008.png: damaged, cut short",
    ),
    # no data set at all
    "unknown-layout": (
        layouts.nih,
        remove(BOXES),
        r"{}: not the layout of a known data set; expected one of lgg, brats",
    ),
}


@pytest.mark.parametrize(("write", "damage", "message"), CASES.values(), ids=CASES)
def test_refused(tmp_path, write, damage, message):
    folder = write(tmp_path / "set")
    damage(folder)
    with pytest.raises(InputError, match=message.format(re.escape(str(folder)))) as caught:
        for sample in read_source(folder).samples:
            sample.load()
    assert "\n" not in str(caught.value)


def test_path_that_does_not_exist(tmp_path):
    with pytest.raises(InputError, match=rf"{re.escape(str(tmp_path))}/nowhere: no such file or folder"):
        read_source(tmp_path / "nowhere")


def test_folder_given_as_a_dot_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(layouts.hc18(tmp_path / "hc18"))
    assert read_source(".").name == "hc18"


def test_other_file_than_json(tmp_path):
    path = save_image(tmp_path / "a.png", picture())
    with pytest.raises(InputError, match=r"a\.png: not the layout of a known data set"):
        read_source(path)


def test_an_input_error_comes_whole_out_of_a_worker_process():
    error = pickle.loads(pickle.dumps(InputError("a.png", "empty", "an image")))  # noqa: S301 - made on this line
    assert (str(error), error.subject) == ("a.png: empty; expected an image", "a.png")
