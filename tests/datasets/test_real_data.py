"""The readers on the real files in AUTOMEDSEG_DATA: what is found, and one sample of each set in full."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the readers belong to the build environment")

from pipeline.datasets import read_source
from pipeline.geometry import box_of_mask

DATA = os.environ.get("AUTOMEDSEG_DATA")
pytestmark = [
    pytest.mark.training,
    pytest.mark.data,
    pytest.mark.skipif(not DATA, reason="AUTOMEDSEG_DATA is not set"),
]

#: {folder: (samples in train, val, test and without split, patients, missing,
#:  sample, its split, its shape, mean of its pixels, [(label, box, pixels of its mask)])}
SETS = {
    "busi_breast_us_148": (
        (97, 11, 19, 0),
        127,
        0,
        ("malignant_025", "train", (427, 512, 3), 87.92, [("breast_lesion", [68, 39, 398, 390], 67861)]),
    ),
    "cxr_lungs_montgomery_shenzhen": (
        (493, 71, 70, 0),
        634,
        0,
        (
            "CHNCXR_0419_1",
            "train",
            (512, 512, 3),
            174.65,
            [("lung", [61, 68, 248, 337], 29172), ("lung", [286, 68, 449, 340], 24924)],
        ),
    ),
    "hc18_fetal_head": (
        (694, 101, 106, 0),
        728,
        0,
        ("407_HC", "train", (270, 400, 3), 35.09, [("fetal_head", [50, 35, 323, 251], 46292)]),
    ),
    "kvasir_seg_polyp": (
        (701, 100, 99, 0),
        896,
        0,
        ("cju45ty6zn9oz0850qy4qnck1", "val", (493, 512, 3), 96.81, [("polyp", [254, 179, 437, 392], 28911)]),
    ),
    "lgg_mri_tcga": (
        (2571, 385, 483, 0),
        98,
        0,
        ("TCGA_DU_8167_19970402_012", "train", (256, 256, 3), 22.10, [("brain_tumor", [86, 111, 104, 131], 141)]),
    ),
    "msd_task04_hippocampus": (
        (9062, 1295, 1310, 0),
        234,
        0,
        ("hippocampus_203_013", "train", (38, 34, 3), 116.71, [("hippocampus", [7, 12, 21, 20], 67)]),
    ),
    "nih_chestxray14_subset": (
        (0, 0, 0, 12),
        12,
        868,
        (
            "00013125_000",
            None,
            (1024, 1024, 3),
            117.94,
            [("Cardiomegaly", [169.04127502, 406.3492063, 831.11957, 824.6179897], None)],
        ),
    ),
    "sunnybrook_cardiac_cine": (
        (535, 94, 134, 0),
        39,
        0,
        ("SC-HF-NI-34-IM-0001-0127", "train", (256, 256, 3), 12.59, [("left_ventricle", [130, 107, 167, 146], 1054)]),
    ),
}


@pytest.mark.parametrize(("name", "counts", "patients", "missing", "_"), [(k, *v) for k, v in SETS.items()], ids=SETS)
def test_samples(name, counts, patients, missing, _):
    source = read_source(Path(DATA) / name)
    split = Counter(sample.split for sample in source.samples)
    assert tuple(split[key] for key in ("train", "val", "test", None)) == counts
    assert (len({sample.patient for sample in source.samples}), len(source.missing)) == (patients, missing)
    assert len({sample.name for sample in source.samples}) == sum(counts)
    # no patient is in two splits
    assert len({(sample.patient, sample.split) for sample in source.samples}) == patients


@pytest.mark.parametrize(("name", "expected"), [(k, v[3]) for k, v in SETS.items()], ids=SETS)
def test_one_sample(name, expected):
    sample_name, split, shape, mean, regions = expected
    [sample] = [s for s in read_source(Path(DATA) / name).samples if s.name == sample_name]
    pixels, found = sample.load()
    assert (sample.split, pixels.shape, pixels.dtype) == (split, shape, np.uint8)
    assert pixels.mean() == pytest.approx(mean, abs=0.1)  # decoders of JPEG differ by a grey level here and there
    assert [region.label for region in found] == [label for label, _, _ in regions]
    for region, (_, box, area) in zip(found, regions, strict=True):
        np.testing.assert_allclose(region.box, box, rtol=1e-6)
        assert (None if region.mask is None else int(region.mask.sum())) == area


@pytest.mark.parametrize("name", SETS)
def test_samples_throughout_load(name):
    samples = read_source(Path(DATA) / name).samples
    for sample in samples[:: max(1, len(samples) // 40)]:
        pixels, regions = sample.load()
        for region in regions:
            left, top, right, bottom = region.box
            assert 0 <= left < right <= pixels.shape[1]
            assert 0 <= top < bottom <= pixels.shape[0]
            if region.mask is not None:
                assert region.mask.shape == pixels.shape[:2]
                np.testing.assert_array_equal(region.box, box_of_mask(region.mask))
