"""Sequences: which frames in which order, what is labelled, and that they look as the prepared slices do."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the readers belong to the build environment")

from pipeline.datasets import read_source
from pipeline.datasets.sequences import LabelledFrames, sequences
from pipeline.errors import InputError
from tests.datasets import layouts
from tests.datasets.layouts import BOX, picture, rectangles

DATA = os.environ.get("AUTOMEDSEG_DATA")
pytestmark = pytest.mark.training


def test_a_volume_is_cut_and_merged_as_its_prepared_slices(tmp_path):
    folder = layouts.hippocampus(tmp_path / "Task04_Hippocampus")
    affine = np.diag([2.0, 3.0, 0.5, 1])
    for part, values in (
        ("imagesTr", layouts.two_greys(layouts.blocks(0, layouts.HIPPOCAMPUS_SHAPE))),
        ("labelsTr", layouts.hippocampus_labels()),
    ):
        layouts.save_volume(folder / part / "hippocampus_001.nii.gz", values, affine)
    [one] = sequences(folder)
    assert (one.name, one.source, one.patient) == ("hippocampus_001", "Task04_Hippocampus", "hippocampus_001")
    assert (one.split, one.label, one.kind) == ("val", "hippocampus", "volume")
    assert one.spacing_mm == (3.0, 0.5, 2.0)  # slices along y, rows along z, columns along x
    found = one.load()
    bright = layouts.blocks(0, layouts.HIPPOCAMPUS_SHAPE)[:, :, ::-1].transpose(1, 2, 0)
    np.testing.assert_array_equal(found.frames, bright * np.uint8(255))
    np.testing.assert_array_equal(found.masks[1], rectangles((2, 3, 10, 6), width=12, height=10))
    assert found.masks.any((1, 2)).tolist() == [False, True, False]
    assert found.labelled.all()


def test_a_cine_study_is_read_over_phases_and_over_slices(tmp_path):
    masks = np.where(rectangles(BOX), 1, 2).astype(np.uint8)
    for name in ("SC-HF-I-01-IM-0001-0032", "SC-N-02-IM-0001-0047", "SC-N-02-IM-0001-0027", "SC-N-02-IM-0001-0030"):
        layouts.save_pair(tmp_path / "ed_es", name)
    layouts.save_study(
        tmp_path / "cine" / "SC-HF-I-01.npz",
        frames=np.stack([picture(seed)[..., 0] for seed in range(6)]),
        masks=np.stack([masks] * 6),
        has_lv=np.array([True, False, False, False, True, False]),
        slice_index=np.array([1, 0, 0, 1, 1, 2]),
        phase_index=np.array([5, 5, 2, 0, 2, 5]),
        pixel_spacing=np.array([1.5, 1.25]),
        slice_thickness=np.array(8.0),
    )
    rows = ["SC-HF-I-01", "test"], ["SC-N-02", "train"]
    layouts.save_table(tmp_path / "splits.csv", ["patient", "split"], *rows)
    found = {one.name: one for one in sequences(tmp_path)}
    assert {name: (one.kind, one.split, one.spacing_mm) for name, one in found.items()} == {
        "SC-HF-I-01_slice01": ("video", "test", None),
        "SC-HF-I-01_phase02": ("volume", "test", (8.0, 1.5, 1.25)),
        "SC-HF-I-01_phase05": ("volume", "test", (8.0, 1.5, 1.25)),
        "SC-N-02_phase06": ("volume", "train", None),
        "SC-N-02_phase09": ("volume", "train", None),
    }
    assert [one.name for one in sequences(tmp_path, "train")] == ["SC-N-02_phase06", "SC-N-02_phase09"]
    for name, order, labelled in (
        ("slice01", [3, 4, 0], [False, True, True]),
        ("phase02", [2, 4], [False, True]),
        ("phase05", [1, 0, 5], [False, True, False]),
    ):
        frames = found[f"SC-HF-I-01_{name}"].load()
        np.testing.assert_array_equal(frames.frames, np.stack([picture(seed)[..., 0] for seed in order]))
        assert frames.labelled.tolist() == labelled
        np.testing.assert_array_equal(frames.masks[labelled.index(True)], rectangles(BOX))
    assert len(found["SC-N-02_phase06"].load().frames) == 2  # frames 27 and 47: slices 1 and 2


def test_what_has_no_sequences_is_refused(tmp_path):
    with pytest.raises(InputError, match="no data set with sequences; expected one of lgg, msd, sunnybrook"):
        sequences(layouts.busi(tmp_path / "busi"))


def test_slices_of_two_sizes_are_refused(tmp_path):
    folder = layouts.lgg(tmp_path / "lgg")
    [one] = [one for one in sequences(folder) if len(one.load.args[0]) > 1][:1]
    series = folder / "images" / one.name
    path = sorted(series.iterdir())[-1]
    layouts.save_image(path, picture(0, 30, 30))
    layouts.save_image(folder / "masks" / one.name / f"{path.stem}.png", rectangles(BOX, width=30, height=30))
    with pytest.raises(InputError, match="a slice of 30x30 pixels in a series of"):
        one.load()


def test_frames_and_masks_have_to_fit():
    with pytest.raises(ValueError, match="LabelledFrames"):
        LabelledFrames(np.zeros((2, 4, 4), np.uint8), np.zeros((2, 4, 5), bool), np.ones(2, bool))


#: folder -> (train, val, test; a sequence, its split, shape, frames with the object, labelled frames, pixels of masks)
REAL = {
    "lgg_mri_tcga": ((76, 11, 11), ("TCGA_CS_6666_20011109", "val", (26, 256, 256, 3), 11, 26, 33230)),
    "msd_task04_hippocampus": ((182, 26, 26), ("hippocampus_024", "val", (52, 33, 38), 41, 52, 4030)),
    "sunnybrook_cardiac_cine": ((74, 10, 23), ("SC-HF-I-01_slice02", "train", (20, 256, 256), 2, 2, 1629)),
}


@pytest.mark.data
@pytest.mark.skipif(not DATA, reason="AUTOMEDSEG_DATA is not set")
@pytest.mark.parametrize("name", REAL)
def test_real_sequences(name):
    counts, (chosen, split, shape, with_object, labelled, pixels) = REAL[name]
    found = sequences(Path(DATA) / name)
    by_split = Counter(one.split for one in found)
    assert tuple(by_split[key] for key in ("train", "val", "test")) == counts
    assert len({one.name for one in found}) == len(found)
    assert len({(one.patient, one.split) for one in found}) == len({one.patient for one in found})
    [one] = [one for one in found if one.name == chosen]
    frames = one.load()
    assert (one.split, frames.frames.shape, frames.frames.dtype) == (split, shape, np.uint8)
    assert int(frames.masks.any((1, 2)).sum()) == with_object
    assert (int(frames.labelled.sum()), int(frames.masks.sum())) == (labelled, pixels)


@pytest.mark.data
@pytest.mark.skipif(not DATA, reason="AUTOMEDSEG_DATA is not set")
@pytest.mark.parametrize("name", REAL)
def test_frames_are_the_samples_that_prepare_sees(name):
    source = read_source(Path(DATA) / name)
    sample = next(s for s in source.samples if s.series and s.split == "train" and len(s.load()[1]))
    pixels, regions = sample.load(every_pixel=True)
    candidates = [one for one in sequences(Path(DATA) / name, "train") if one.patient == sample.patient]
    shown = [one.load() for one in candidates if sample.series.startswith(one.name)]
    rgb = [f.frames if f.frames.ndim == 4 else np.repeat(f.frames[..., None], 3, axis=3) for f in shown]
    same = [(k, i) for k, frames in enumerate(rgb) for i in range(len(frames)) if np.array_equal(frames[i], pixels)]
    assert same
    k, i = same[0]
    np.testing.assert_array_equal(shown[k].masks[i], np.any([region.mask for region in regions], axis=0))
