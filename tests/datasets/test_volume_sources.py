"""Sources of volumes: slices in order, turned as they should be, channels and labels put together."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the readers belong to the build environment")

from pipeline.datasets import brats, lgg, read_source
from tests.datasets import layouts
from tests.datasets.layouts import BOX, BRATS_2020, BRATS_2021, BRATS_2023, BRATS_SHAPE, blocks, rectangles

pytestmark = pytest.mark.training


def test_hippocampus(tmp_path):
    source = read_source(layouts.hippocampus(tmp_path / "Task04_Hippocampus"))
    assert (source.name, source.modality, source.classes) == ("Task04_Hippocampus", "MRI", ("hippocampus",))
    assert (source.slice_axis, source.missing) == (1, ("hippocampus_004",))
    volume = "hippocampus_001"
    assert [(s.name, s.patient, s.split, s.series, s.slice_index) for s in source.samples] == [
        (f"{volume}_{index:03d}", volume, "val", volume, index) for index in range(3)
    ]
    pixels, regions = source.samples[1].load()
    # the last axis of the file points up, so row 0 is the last z
    bright = blocks(0, layouts.HIPPOCAMPUS_SHAPE)[:, 1, ::-1].T
    np.testing.assert_array_equal(pixels, np.repeat(bright[..., None] * np.uint8(255), 3, axis=2))
    [region] = regions  # anterior and posterior as one
    assert (region.label, region.box.tolist()) == ("hippocampus", [2, 3, 10, 6])
    np.testing.assert_array_equal(region.mask, rectangles((2, 3, 10, 6), width=12, height=10))
    assert source.samples[0].load()[1] == []


def write_task(folder, name: str, modalities: list[str], channels: int) -> None:
    shape = (12, 10, 2, channels)
    layouts.save_volume(folder / "imagesTr" / "a_1.nii.gz", layouts.two_greys(blocks(0, shape)))
    labels = np.zeros(shape[:3], np.uint8)
    labels[1:4, 2:7, 1] = 1
    labels[6:11, 2:7, 1] = 3
    layouts.save_volume(folder / "labelsTr" / "a_1.nii.gz", labels)
    layouts.decathlon(folder, name, modalities, {"0": "background", "1": "edema", "3": "enhancing tumour"}, ["a_1"])


@pytest.mark.parametrize(
    ("modalities", "rgb"),
    [
        pytest.param(["FLAIR", "T1w", "t1gd", "T2w"], (1, 0, 2), id="task01-as-the-lgg-set"),
        pytest.param(["T2", "ADC"], (0, 1, 0), id="task05-two-channels"),
        pytest.param(["a", "b", "c", "d"], (0, 1, 2), id="other-first-three"),
        pytest.param(["MRI"], (0, 0, 0), id="fourth-axis-of-one"),
    ],
)
def test_decathlon_channels(tmp_path, modalities, rgb):
    write_task(tmp_path, "BRATS", modalities, len(modalities))
    source = read_source(tmp_path)
    assert source.classes == ("edema", "enhancing tumour")
    assert source.modality == " ".join(modalities)
    assert [sample.slice_index for sample in source.samples] == [0, 1]
    pixels, regions = source.samples[1].load()
    bright = blocks(0, (12, 10, 2, len(modalities)))[:, ::-1, 1].transpose(1, 0, 2)
    np.testing.assert_array_equal(pixels, bright[..., list(rgb)] * np.uint8(255))
    assert [(r.label, r.box.tolist()) for r in regions] == [
        ("edema", [1, 3, 4, 8]),
        ("enhancing tumour", [6, 3, 11, 8]),
    ]


def test_intensities_are_windowed_over_the_whole_volume(tmp_path):
    layouts.hippocampus(tmp_path)
    values = np.full(layouts.HIPPOCAMPUS_SHAPE, 1000.0, np.float32)
    values[0] = 2000
    values[1, 0, 0], values[2, 0, 0], values[3, 0, 0] = 1500, 0, 9000  # half way, background, beyond 99.5 %
    layouts.save_volume(tmp_path / "imagesTr" / "hippocampus_001.nii.gz", values)
    pixels, _ = read_source(tmp_path).samples[0].load()
    assert pixels[-1, :5, 0].tolist() == [255, 128, 0, 255, 0]
    assert np.unique(read_source(tmp_path).samples[1].load()[0]).tolist() == [0, 255]


@pytest.mark.parametrize(
    ("case", "suffix", "patient"),
    [
        pytest.param(BRATS_2020, ".nii", "BraTS20_Training_001", id="2020-nii"),
        pytest.param(BRATS_2020, ".nii.gz", "BraTS20_Training_001", id="2020-nii-gz"),
        pytest.param(BRATS_2021, ".nii.gz", "BraTS2021_00000", id="2021"),
        pytest.param(BRATS_2023, ".nii.gz", "BraTS-GLI-00005", id="2023"),
    ],
)
@pytest.mark.parametrize("turned", ["LPS", "RAS", "SPL"])
def test_brats(tmp_path, case, suffix, patient, turned):
    source = read_source(layouts.brats_case(tmp_path / "brats", case, suffix, turned))
    assert (source.name, source.modality, source.classes) == ("brats", "brain MRI", ("brain_tumor",))
    assert (source.slice_axis, source.missing) == (2, ())
    assert [(s.name, s.patient, s.split, s.series, s.slice_index) for s in source.samples] == [
        (f"{case[0]}_{index:03d}", patient, None, case[0], index) for index in range(3)
    ]
    pixels, regions = source.samples[1].load()
    t1, flair, t1_contrast = (blocks(number, BRATS_SHAPE)[..., 1].T for number in range(3))
    np.testing.assert_array_equal(pixels, np.stack([t1, flair, t1_contrast], axis=2) * np.uint8(255))
    [region] = regions  # the whole tumour
    assert (region.label, tuple(region.box.tolist())) == ("brain_tumor", BOX)
    np.testing.assert_array_equal(region.mask, rectangles(BOX))
    assert source.samples[0].load()[1] == []


def test_brats_files_of_a_case_may_be_turned_differently(tmp_path):
    layouts.brats_case(tmp_path, turned="LPS")
    name = BRATS_2020[0]
    layouts.save_volume(tmp_path / name / f"{name}_seg.nii.gz", layouts.brats_labels()[::-1, ::-1].copy(), layouts.RAS)
    [region] = read_source(tmp_path).samples[1].load()[1]
    assert tuple(region.box.tolist()) == BOX


def test_brats_examinations_of_a_patient_stay_in_one_split(tmp_path):
    first, second = (f"BraTS-GLI-00005-{number:03d}" for number in (0, 1))
    for name in (first, second):
        layouts.brats_case(tmp_path, (name, BRATS_2023[1]), labels=layouts.brats_labels(3))
    layouts.save_table(tmp_path / "splits.csv", ["patient", "split"], ["BraTS-GLI-00005", "test"])
    source = read_source(tmp_path)
    assert {(s.series, s.patient, s.split) for s in source.samples} == {
        (first, "BraTS-GLI-00005", "test"),
        (second, "BraTS-GLI-00005", "test"),
    }


@pytest.mark.parametrize("ending", [*BRATS_2020[1]])
def test_brats_incomplete_case_is_missing(tmp_path, ending):
    layouts.brats_case(tmp_path)
    layouts.brats_case(tmp_path, ("BraTS20_Training_002", BRATS_2020[1]))
    (tmp_path / "BraTS20_Training_002" / f"BraTS20_Training_002{ending}.nii.gz").unlink()
    source = read_source(tmp_path)
    assert source.missing == ("BraTS20_Training_002",)
    assert {sample.series for sample in source.samples} == {"BraTS20_Training_001"}


def test_brats_2020_segmentation_with_the_odd_name(tmp_path):
    layouts.brats_case(tmp_path, ("BraTS20_Training_355", BRATS_2020[1]), ".nii")
    case = tmp_path / "BraTS20_Training_355"
    (case / "BraTS20_Training_355_seg.nii").rename(case / "W39_1998.09.19_Segm.nii")
    source = read_source(tmp_path)
    assert (len(source.samples), source.missing) == (3, ())


def test_brats_one_level_down_as_the_archive_unpacks(tmp_path):
    layouts.brats_case(tmp_path / "MICCAI_BraTS2020_TrainingData")
    assert len(read_source(tmp_path).samples) == 3


def test_brats_and_lgg_are_told_apart(tmp_path):
    glioma, low_grade = layouts.brats_case(tmp_path / "a"), layouts.lgg(tmp_path / "b")
    assert [brats.matches(glioma), brats.matches(low_grade)] == [True, False]
    assert [lgg.matches(glioma), lgg.matches(low_grade)] == [False, True]
