"""A DICOM Segmentation, read back by highdicom and compared with the regions by value."""

from __future__ import annotations

import warnings
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from pipeline import AutoSegmenter, InputError, read_scan
from pipeline.correction import correct
from pipeline.dicom_seg import dicom_seg
from pipeline.edits import Edit
from pipeline.results import Segmentation
from pipeline.scan import Scan


@pytest.fixture(scope="module")
def segment(release) -> AutoSegmenter:
    return AutoSegmenter.from_release(release.folder, release.precisions[0])


def stored(name: str) -> Path:
    """One of the images that pydicom ships."""
    return Path(get_testdata_file(name, download=False))


def two_regions(segment: AutoSegmenter, scan: Scan) -> Segmentation:
    """Two boxes that overlap; the first is called a lung."""
    height, width = scan.pixels.shape[:2]
    share = np.array([[0.1, 0.1, 0.5, 0.5], [0.4, 0.3, 0.8, 0.9]])
    drawn = segment(scan, boxes=share * [width, height, width, height])
    return correct(segment, scan, drawn, Edit("relabel", region=1, label="lung"))


def written(path: Path, found: Segmentation, to: Path) -> highdicom.seg.Segmentation:
    dicom_seg(path, found).save_as(to)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the images' own odd values
        return highdicom.seg.segread(to)


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "examples_rgb_color.dcm", "JPEG2000.dcm"])
def test_masks_and_place_are_those_of_the_image(segment, tmp_path, name):
    path = stored(name)
    scan = read_scan(path)
    found = two_regions(segment, scan)
    read = written(path, found, tmp_path / "seg.dcm")
    source = dcmread(path, stop_before_pixels=True)
    masks = read.get_pixels_by_source_instance([source.SOPInstanceUID], ignore_spatial_locations=True)[0]
    assert all(np.array_equal(masks[..., index], found.mask(index)) for index in range(2))
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert read.get(keyword) == source.get(keyword)
    assert read.SeriesInstanceUID != source.SeriesInstanceUID
    if "ImagePositionPatient" in source:
        [frame] = {str(f.PlanePositionSequence[0].ImagePositionPatient) for f in read.PerFrameFunctionalGroupsSequence}
        assert frame == str(source.ImagePositionPatient)
        shared = read.SharedFunctionalGroupsSequence[0]
        assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == source.ImageOrientationPatient
        assert shared.PixelMeasuresSequence[0].PixelSpacing == source.PixelSpacing


def test_segments_say_what_they_are_and_who_made_them(segment, release, tmp_path):
    path = stored("CT_small.dcm")
    scan = read_scan(path)
    drawn = segment(scan, boxes=[[10, 10, 60, 60], [50, 40, 100, 110]])
    found = correct(segment, scan, drawn, Edit("relabel", region=1, label="breast_lesion"))
    read = written(path, found, tmp_path / "seg.dcm")
    lesion, region = (read.get_segment_description(number) for number in (1, 2))
    assert (lesion.SegmentLabel, region.SegmentLabel) == ("1 breast_lesion", "2 region")
    assert (lesion.SegmentAlgorithmType, region.SegmentAlgorithmType) == ("SEMIAUTOMATIC", "AUTOMATIC")
    assert lesion.segmented_property_category.value == "49755003"
    assert lesion.segmented_property_type.value == "52988006"
    assert lesion.anatomic_regions[0].value == "76752008"
    assert region.segmented_property_type.value == "85756007"
    [algorithm] = lesion.SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("AutoMedSeg", release.identity["version"])
    assert read.ContentDescription == "corrected by a person: 1 breast_lesion"
    assert read.SegmentationType == "BINARY"


def test_every_class_of_the_release_has_a_code(release):
    from pipeline.dicom_seg import _CODES

    assert {entry["name"] for entry in release.config["classes"]} <= set(_CODES)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"SOPInstanceUID": None}, "no SOPInstanceUID; expected a DICOM image with it"),
        ({"FrameOfReferenceUID": None}, "no FrameOfReferenceUID"),
        ({"StudyTime": "14:04:38", "PatientName": "Doe^Jane"}, "a DICOM file that a Segmentation can't refer to"),
    ],
)
def test_a_header_that_allows_none_is_refused_without_quoting_it(segment, tmp_path, changes, sentence):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = dcmread(stored("CT_small.dcm"))
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
        path = tmp_path / "scan.dcm"
        dataset.save_as(path, enforce_file_format=False)
    found = two_regions(segment, read_scan(path))
    with pytest.raises(InputError, match=sentence) as refused:
        dicom_seg(path, found)
    assert "Doe" not in str(refused.value)


def test_no_region_is_no_segmentation(segment):
    path = stored("CT_small.dcm")
    with pytest.raises(InputError, match="no region; expected at least one"):
        dicom_seg(path, segment(path, min_score=1))
