"""The regions of a DICOM image as a DICOM Segmentation, which 3D Slicer and OHIF lay over the image."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from highdicom import UID, AlgorithmIdentificationSequence, seg
from highdicom.color import CIELabColor
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import Code, codes

from pipeline.errors import InputError
from pipeline.overlay import class_colour
from pipeline.readers.content import DAMAGE
from pipeline.results import Segmentation

_FAMILY = codes.DCM.ArtificialIntelligence
_ANATOMY, _ABNORMAL = codes.SCT.AnatomicalStructure, codes.SCT.MorphologicallyAbnormalStructure
#: Class -> SNOMED CT's category and type of what is outlined, and where in the body an abnormal one is.
_CODES: dict[str, tuple[Code, Code, Code | None]] = {
    "brain_tumor": (_ABNORMAL, codes.SCT.Neoplasm, codes.SCT.Brain),
    "hippocampus": (_ANATOMY, codes.SCT.Hippocampus, None),
    "lung": (_ANATOMY, codes.SCT.Lung, None),
    "left_ventricle": (_ANATOMY, codes.SCT.LeftVentricle, None),
    "polyp": (_ABNORMAL, codes.SCT.PolypOfColon, codes.SCT.Colon),
    "fetal_head": (_ANATOMY, codes.SCT.Head, None),
    "breast_lesion": (_ABNORMAL, codes.SCT.Lesion, codes.SCT.Breast),
}
#: Of a box that a person drew and of other classes: what 3D Slicer gives to a new segment.
_ANY = (codes.SCT.Tissue, codes.SCT.Tissue, None)
#: What a Segmentation takes over from its image, and what stands there where an old or anonymised file lacks it.
_TAKEN_OVER = {
    "PatientID": "", "PatientName": "", "PatientBirthDate": "", "PatientSex": "", "AccessionNumber": "",
    "StudyID": "", "StudyDate": "", "StudyTime": "", "ReferringPhysicianName": "",
}  # fmt: skip
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_MOST_LETTERS = 64
#: A projection has no thickness, but readers of Segmentations ask for one where there is a spacing.
_PROJECTION_MM = 1


def dicom_seg(path: Path, segmentation: Segmentation) -> seg.Segmentation:
    """The regions that were found in the DICOM file at `path`, one segment each, in their order.

    Binary, in the frame of reference of the image; the segment's label is its number and class, its type AUTOMATIC, or
    SEMIAUTOMATIC where a person corrected it. Patient and study are the image's own, as the standard asks for, so that
    a viewer files the two together.

    Raises
    ------
    InputError
        Where nothing was found, or the file lacks the identifiers that a Segmentation has to refer to.
    """
    if not len(segmentation):
        raise InputError(path, "no region", "at least one for a DICOM Segmentation")
    try:
        with _quiet():
            source = _source(path)
            return _object(source, segmentation)
    except InputError:
        raise
    except DAMAGE:
        problem = "a DICOM file that a Segmentation can't refer to"
        raise InputError(path, problem, "an image whose header keeps to the standard") from None


def _source(path: Path) -> Dataset:
    dataset = dcmread(path, force=True, stop_before_pixels=True)
    placed = ("FrameOfReferenceUID",) if "ImagePositionPatient" in dataset else ()
    for keyword in (*_NEEDED, *placed):
        if not dataset.get(keyword):
            raise InputError(path, f"no {keyword}", "a DICOM image with it, for a Segmentation has to refer to it")
    for keyword, value in _TAKEN_OVER.items():
        if keyword not in dataset:
            setattr(dataset, keyword, value)
    if "PixelSpacing" in dataset and "SliceThickness" not in dataset:
        dataset.SliceThickness = _PROJECTION_MM
    return dataset


def _object(source: Dataset, segmentation: Segmentation) -> seg.Segmentation:
    version = segmentation.weights["version"]
    algorithm = AlgorithmIdentificationSequence(
        name="AutoMedSeg", family=_FAMILY, version=version, source="research software, not a medical device",
        parameters={"precision": segmentation.precision, "weights sha256": segmentation.weights["sha256"]},
    )  # fmt: skip
    masks = np.stack([segmentation.mask(index) for index in range(len(segmentation))], axis=-1)
    return seg.Segmentation(
        source_images=[source],
        pixel_array=masks[None],
        segmentation_type=seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(segmentation, index, algorithm) for index in range(len(segmentation))],
        series_instance_uid=UID(),
        series_number=int(source.get("SeriesNumber") or 0) + 1000,
        sop_instance_uid=UID(),
        instance_number=1,
        manufacturer="AutoMedSeg",
        manufacturer_model_name="AutoMedSeg",
        software_versions=version,
        device_serial_number=segmentation.weights["sha256"][:_MOST_LETTERS],
        content_label="SEGMENTATION",
        content_description=(segmentation.note or "found by networks")[:_MOST_LETTERS],
        series_description="AutoMedSeg, research software",
    )


def _segment(
    segmentation: Segmentation, index: int, algorithm: AlgorithmIdentificationSequence
) -> seg.SegmentDescription:
    label = segmentation.labels[index]
    category, kind, region = _CODES.get(label, _ANY)
    types = seg.SegmentAlgorithmTypeValues
    colour = class_colour(int(segmentation.detections.class_ids[index]))
    return seg.SegmentDescription(
        segment_number=index + 1,
        segment_label=f"{index + 1} {label}"[:_MOST_LETTERS],
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=types.SEMIAUTOMATIC if segmentation.is_corrected(index) else types.AUTOMATIC,
        algorithm_identification=algorithm,
        anatomic_regions=[region] if region else None,
        display_color=CIELabColor.from_rgb(*colour),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Warnings of pydicom quote values of the header, which can name a patient."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
