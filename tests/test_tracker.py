"""Tracking through stacks: real volumes and hearts, and what its parts decide."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from pipeline import AutoSegmenter
from pipeline.errors import InputError
from pipeline.scope import Scope
from pipeline.stack import Stack, read_stack
from pipeline.tracker import Rules, Tracker, choose_axis, common_window
from pipeline.tubes import Linking, Tube

LEFT_VENTRICLE = 4


@pytest.fixture(scope="module")
def tracker(release) -> Tracker:
    return Tracker(AutoSegmenter.from_release(release.folder, threads=2))


@pytest.fixture(scope="module")
def heart() -> tuple[Stack, np.ndarray, np.ndarray]:
    """A slice of a beating heart: (stack, masks of the left ventricle, which of them are labelled)."""
    study = np.load(_data() / "sunnybrook_cardiac_cine" / "cine" / "SC-HF-I-01.npz")
    order = np.flatnonzero(study["slice_index"] == 5)
    order = order[np.argsort(study["phase_index"][order])]
    return (
        Stack(Path("heart.mp4"), "video", study["frames"][order], frame_seconds=0.04),
        study["masks"][order] == 1,
        study["has_lv"][order].astype(bool),
    )


def _data() -> Path:
    if "AUTOMEDSEG_DATA" not in os.environ:
        pytest.skip("AUTOMEDSEG_DATA names no folder")
    return Path(os.environ["AUTOMEDSEG_DATA"])


def dice(found: np.ndarray, true: np.ndarray) -> float:
    return 2 * (found & true).sum() / (found.sum() + true.sum())


@pytest.mark.data
def test_a_beating_heart(tracker, heart):
    stack, masks, labelled = heart
    progress = []
    found = tracker(stack, progress=lambda done, total: progress.append((done, total)))
    (track,) = found.tracks
    assert (track.label, track.class_id, track.span) == ("left_ventricle", LEFT_VENTRICLE, (0, len(stack) - 1))
    for frame in np.flatnonzero(labelled):
        assert dice(found.mask(0, frame), masks[frame]) > 0.85
        assert np.array_equal(found.label_map(frame), found.mask(0, frame) * np.uint8(LEFT_VENTRICLE))
        assert np.array_equal(found.object_map(frame), found.mask(0, frame).astype(np.uint8))
        assert track.area_px(frame) == found.mask(0, frame).sum()
    assert progress[-1] == (2 * len(stack), 2 * len(stack))
    assert progress == sorted(progress)
    assert {"detect", "embed", "decode", "post", "total"} <= found.timings_ms.keys()


@pytest.mark.data
def test_a_volume(tracker):
    """A hippocampus, coronal slices: Dice of all voxels together."""
    folder = _data() / "msd_task04_hippocampus"
    name = "hippocampus_260.nii.gz"
    voxels, labels = (np.asarray(nibabel.load(folder / of / name).dataobj) for of in ("imagesTr", "labelsTr"))
    low, high = np.percentile(voxels[voxels > 0], (0.5, 99.5))
    grey = ((voxels - low) / (high - low)).clip(0, 1) * 255
    frames, true = (np.stack([np.rot90(of[:, index]) for index in range(of.shape[1])]) for of in (grey, labels > 0))
    found = tracker(Stack(Path(name), "volume", frames.astype(np.uint8), (1.0, 1.0, 1.0)))
    assert [track.label for track in found.tracks] == ["hippocampus"]
    assert dice(np.stack([found.mask(0, index) for index in range(len(frames))]), true) > 0.8


@pytest.mark.data
def test_an_isotropic_volume_is_cut_as_its_class_was_learned(tracker):
    stack = read_stack(_data() / "msd_task04_hippocampus" / "imagesTr" / "hippocampus_260.nii.gz")
    assert (stack.axis, stack.grid.thinnest) == (2, None)
    assert choose_axis(stack, tracker.segmenter).axis == 1


def test_what_says_its_axis_is_left_as_it_is(tracker, tmp_path):
    flat, black = np.diag([1.0, 1.0, 4.0, 1.0]), np.random.default_rng(0).integers(0, 99, (20, 20, 9), np.uint8)
    nibabel.Nifti1Image(black, flat).to_filename(tmp_path / "flat.nii.gz")
    stack = read_stack(tmp_path / "flat.nii.gz")
    assert choose_axis(stack, tracker.segmenter) is stack
    video = Stack(Path("video"), "video", black)
    assert choose_axis(video, tracker.segmenter) is video


@pytest.mark.parametrize("kind", ["volume", "video"])
def test_nothing_in_it(tracker, kind):
    found = tracker(Stack(Path("black"), kind, np.zeros((3, 40, 50), np.uint8)))
    assert found.tracks == ()
    assert found.label_map(1).shape == (40, 50)
    assert not found.label_map(1).any()


@pytest.mark.data
def test_classes_and_least_score(tracker, heart):
    stack, _, _ = heart
    assert tracker(stack, classes=["polyp"]).tracks == ()
    assert tracker(stack, min_score=1.0).tracks == ()
    with pytest.raises(InputError, match="'liver' is not a class of these weights"):
        tracker(stack, classes=["liver"])


def test_an_object_needs_more_than_a_box_of_an_image(tracker):
    least = tracker._least(None, None)
    own = dict(zip(tracker.segmenter.detector.class_ids, tracker.segmenter.detector.thresholds, strict=True))
    assert least == pytest.approx({class_id: max(score, 0.25) for class_id, score in own.items()})
    assert set(tracker._least(None, 0.1).values()) == {0.1}


@pytest.mark.data
def test_stopped_by_its_progress(tracker, heart):
    class StoppedError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done >= total // 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        tracker(heart[0], progress=stop)


def test_frames_between_the_detectors_looks(tracker, monkeypatch):
    """Of a video of 100 frames a second every tenth is looked at, and those just beyond an object's ends."""
    looks = []
    detector = tracker.segmenter.frame_networks.detector
    propose = detector.propose

    def noted(pixels: np.ndarray):
        looks.append(int(pixels[0, 0, 0]))
        return propose(pixels)

    monkeypatch.setattr(detector, "propose", noted)
    frames = np.repeat(np.arange(41, dtype=np.uint8), 40 * 40).reshape(41, 40, 40)
    tracker(Stack(Path("fast"), "video", frames, frame_seconds=0.01))
    assert sorted(looks) == [0, 10, 20, 30, 40]


def tube(*boxes: tuple[float, float, float, float], class_id: int = 1, score: float = 0.9) -> Tube:
    return Tube(class_id, 0, np.array(boxes, np.float32), np.full(len(boxes), score, np.float32))


@pytest.mark.parametrize(
    ("boxes", "surroundings", "window"),
    [
        pytest.param([(40, 40, 60, 60)], 2.5, (25, 25, 75, 75), id="its-surroundings"),
        pytest.param([(10, 40, 30, 60), (70, 40, 90, 60)], 2.5, (0, 0, 100, 100), id="it-moves-far"),
        pytest.param([(0, 0, 20, 20)], 2.5, (0, 0, 50, 50), id="in-a-corner"),
        pytest.param([(40, 40, 60, 60)], None, (0, 0, 100, 100), id="the-whole-frame"),
    ],
)
def test_the_common_window(boxes, surroundings, window):
    assert common_window([tube(*boxes)], 100, 100, 64, surroundings).window == window


@pytest.mark.parametrize(
    ("rivals", "kept"),
    [
        pytest.param({"brain_tumor": 0.5}, [0.9, 0.5], id="half-as-good"),
        pytest.param({}, [0.9], id="as-in-an-image"),  # where a brain tumour's box has to be as sure as the surest
        pytest.param({"brain_tumor": 1.0}, [0.9], id="one-only"),
        pytest.param({"brain_tumor": 0.0}, [0.9, 0.5, 0.2], id="any-number"),
    ],
)
def test_rivals_of_the_best(tracker, monkeypatch, rivals, kept):
    monkeypatch.setattr(tracker, "rules", Rules(rivals=rivals))
    tubes = [tube((0, 0, 9, 9), score=score) for score in (0.9, 0.5, 0.2)]
    assert [round(float(one.scores[0]), 1) for one in tracker._objects(tubes)] == kept


def test_rules_of_a_release():
    config = {"tracking": {"linking": {"gap": 3}, "sureness": 1.0, "rivals": {"lung": 0.0}}}
    assert Rules.from_config(config) == Rules(Linking(gap=3), 1.0, {"lung": 0.0})
    assert Rules.from_config({}) == Rules()


@pytest.mark.data
def test_a_stack_of_another_kind_shows_nothing(release, heart):
    """With a ratio below 1 every frame is of another kind."""
    segmenter = AutoSegmenter.from_release(release.folder, threads=2)
    segmenter.scope = Scope(segmenter.scope.session, 1e6, (LEFT_VENTRICLE,), 0.5)
    assert Tracker(segmenter)(heart[0]).tracks == ()
