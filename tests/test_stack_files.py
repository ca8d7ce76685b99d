"""What a volume and a video give: files that say the same, in the input's own grid; and the command line around."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import nibabel
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from pipeline.errors import InputError
from pipeline.inputs import find_inputs, is_stack, output_names
from pipeline.overlay import class_colour
from pipeline.stack import Stack, read_stack
from pipeline.stack_files import stack_result_paths, write_stack_files
from pipeline.stack_overlay import contact_sheet, draw_frame
from pipeline.tracks import Track, Tracking

ROOT = Path(__file__).parents[1]
WEIGHTS = {"version": "1.2.3", "sha256": "abc"}


def track(label: str, class_id: int, score: float, masks: dict[int, np.ndarray]) -> Track:
    rles = {index: coco_mask.encode(np.asfortranarray(mask, np.uint8)) for index, mask in masks.items()}
    return Track(label, class_id, score, (min(masks),), rles, dict.fromkeys(masks, score))


def box(shape: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[rows, columns] = True
    return mask


@pytest.fixture
def volume(tmp_path) -> Stack:
    """7 x 9 x 5 voxels that run to the left, the feet and the front."""
    values = np.random.default_rng(0).integers(1, 250, (7, 9, 5)).astype(np.int16)
    affine = np.array([[-1.0, 0, 0, 5], [0, 0, 2, 1], [0, -4, 0, 9], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "scan.nii.gz")
    return read_stack(tmp_path / "scan.nii.gz")


@pytest.fixture
def found(volume) -> Tracking:
    """Two objects that overlap in one slice, the surer one first."""
    shape = volume.size
    first = {2: box(shape, np.s_[1:4], np.s_[2:5]), 3: box(shape, np.s_[1:3], np.s_[2:5])}
    second = {3: box(shape, np.s_[2:5], np.s_[3:7]), 4: box(shape, np.s_[2:3], np.s_[3:4])}
    tracks = track("hippocampus", 2, 0.91, first), track("brain_tumor", 1, 0.5, second)
    return Tracking((len(volume), *shape), tracks, "int8", WEIGHTS, timings_ms={"read": 1.234, "total": 5.0})


def test_files_of_a_volume(volume, found, tmp_path):
    write_stack_files(tmp_path / "out", Path("scan"), "the/scan.nii.gz", volume, found)
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        *("scan.json", "scan_objects.nii.gz", "scan_overlay.png", "scan_seg.nii.gz")
    ]  # fmt: skip
    given = nibabel.load(tmp_path / "scan.nii.gz")
    for name, map_of in (("seg", found.label_map), ("objects", found.object_map)):
        image = nibabel.load(out / f"scan_{name}.nii.gz")
        assert image.shape == given.shape and np.array_equal(image.affine, given.affine)
        assert image.get_data_dtype() == np.uint8
        again = read_stack(out / f"scan_{name}.nii.gz", window=(127.5, 255))
        assert np.array_equal(again.frames, np.stack([map_of(index) for index in range(len(volume))]))
    assert found.label_map(3)[2, 3] == 2 and found.object_map(3)[2, 3] == 1  # the surer one is on top
    record = json.loads((out / "scan.json").read_text("utf-8"))
    diameter = np.linalg.norm([4, 2 * 2, 2 * 1])  # a slice of 4 mm, two rows of 2 mm, two columns of 1 mm
    assert record == {
        "file": "the/scan.nii.gz",
        "shape": [9, 5, 7],
        "kind": "volume",
        "axis": 2,
        "spacing_mm": [4.0, 2.0, 1.0],
        "frame_seconds": None,
        "precision": "int8",
        "weights": WEIGHTS,
        "memory": False,
        "notes": [],
        "objects": [
            {
                "label": "hippocampus", "class_id": 2, "score": 0.91, "span": [2, 3], "key_frames": [2],
                "frame_scores": {"2": 0.91, "3": 0.91}, "volume_ml": 15 * 8 / 1000,
                "longest_diameter_mm": pytest.approx(diameter, abs=0.001),
            },
            {
                "label": "brain_tumor", "class_id": 1, "score": 0.5, "span": [3, 4], "key_frames": [3],
                "frame_scores": {"3": 0.5, "4": 0.5}, "volume_ml": 13 * 8 / 1000,
                "longest_diameter_mm": pytest.approx(np.linalg.norm([4, 4, 3]), abs=0.001),
            },
        ],
        "timings_ms": {"read": 1.23, "total": 5.0},
    }  # fmt: skip


def test_nothing_found_is_a_result(volume, tmp_path):
    nothing = Tracking((len(volume), *volume.size), (), "int8", WEIGHTS)
    write_stack_files(tmp_path, Path("a"), "a", volume, nothing)
    assert not np.asarray(nibabel.load(tmp_path / "a_seg.nii.gz").dataobj).any()
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))["objects"] == []
    with Image.open(tmp_path / "a_overlay.png") as sheet:
        assert sheet.size == (6 * round(7 * 256 / 10), 2 * 256)  # all nine slices


def test_a_file_without_spacing_has_no_volume(volume, found, tmp_path):
    from dataclasses import replace

    blind = replace(volume, grid=replace(volume.grid, spacing_mm=None), spacing_mm=None)
    write_stack_files(tmp_path, Path("a"), "a", blind, found)
    first = json.loads((tmp_path / "a.json").read_text("utf-8"))["objects"][0]
    assert (first["volume_ml"], first["longest_diameter_mm"]) == (None, None)


@pytest.fixture
def video() -> tuple[Stack, Tracking]:
    """Four frames of odd sides, in which an object moves to the right."""
    frames = np.full((4, 45, 63, 3), 90, np.uint8)
    masks = {index: box((45, 63), np.s_[10:30], np.s_[10 + 5 * index : 30 + 5 * index]) for index in (1, 2, 3)}
    tracking = Tracking((4, 45, 63), (track("polyp", 5, 0.7, masks),), "fp32", WEIGHTS, memory=True)
    return Stack(Path("a.mp4"), "video", frames, frame_seconds=0.04, notes=("cut short",)), tracking


def test_files_of_a_video(video, tmp_path):
    stack, tracking = video
    write_stack_files(tmp_path, Path("left/a"), "a.mp4", stack, tracking)
    out = tmp_path / "left"
    assert sorted(path.name for path in out.iterdir()) == ["a.json", "a_overlay.mp4", "a_seg.npz"]
    with np.load(out / "a_seg.npz", allow_pickle=False) as arrays:
        assert sorted(arrays) == ["labels", "objects"]
        for name, map_of in (("labels", tracking.label_map), ("objects", tracking.object_map)):
            assert np.array_equal(arrays[name], np.stack([map_of(index) for index in range(4)]))
            assert arrays[name].dtype == np.uint8
    with av.open(str(out / "a_overlay.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 25)
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert [frame.shape for frame in shown] == [(46, 64, 3)] * 4  # codecs ask for even sides
    drawn = [draw_frame(stack, tracking, index) for index in range(4)]
    assert np.array_equal(drawn[0], stack.frames[0])
    assert drawn[2][10, 25].tolist() == list(class_colour(5)) and drawn[2][0, 0].tolist() == [90, 90, 90]
    for frame, expected in zip(shown, drawn, strict=True):
        # H.264 keeps colours at half the size: inside of the object, and far from it
        assert np.abs(frame[18:22, 28:30].astype(int) - expected[18:22, 28:30]).max() < 25
        assert np.abs(frame[36:44, :60].astype(int) - 90).max() < 8
    record = json.loads((out / "a.json").read_text("utf-8"))
    assert {key: record[key] for key in ("kind", "axis", "spacing_mm", "frame_seconds", "memory", "notes")} == {
        "kind": "video", "axis": None, "spacing_mm": None, "frame_seconds": 0.04, "memory": True,
        "notes": ["cut short"],
    }  # fmt: skip
    assert record["objects"] == [
        {
            "label": "polyp", "class_id": 5, "score": 0.7, "span": [1, 3], "key_frames": [1],
            "frame_scores": {"1": 0.7, "2": 0.7, "3": 0.7}, "area_px": [400, 400, 400],
        }
    ]  # fmt: skip


def test_an_overlay_is_shrunk_to_what_can_be_encoded(tmp_path):
    stack = Stack(Path("a.gif"), "video", np.full((2, 24, 32768, 3), 90, np.uint8), frame_seconds=0.1)
    write_stack_files(tmp_path, Path("a"), "a.gif", stack, Tracking((2, 24, 32768), (), "int8", WEIGHTS))
    with av.open(str(tmp_path / "a_overlay.mp4")) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in shown] == [(4, 4096, 3)] * 2
    with np.load(tmp_path / "a_seg.npz", allow_pickle=False) as arrays:
        assert arrays["labels"].shape == (2, 24, 32768)


def test_a_stopped_run_leaves_nothing_half_written(video, tmp_path, monkeypatch):
    stack, tracking = video

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.stack_overlay.draw_frame", stop)
    with pytest.raises(KeyboardInterrupt):
        write_stack_files(tmp_path, Path("a"), "a.mp4", stack, tracking)
    assert [path.name for path in tmp_path.iterdir()] == ["a_seg.npz"]


def test_a_full_disk_is_a_sentence(video, tmp_path):
    (tmp_path / "left").write_text("a file where a folder should be")
    with pytest.raises(InputError, match="left: can't be written to"):
        write_stack_files(tmp_path, Path("left/a"), "a.mp4", *video)


def test_more_objects_than_a_byte_counts(tmp_path):
    masks = [{0: box((20, 20), np.s_[n // 20 : n // 20 + 1], np.s_[n % 20 : n % 20 + 1])} for n in range(300)]
    tracking = Tracking((1, 20, 20), tuple(track("lung", 3, 0.5, mask) for mask in masks), "int8", {})
    assert tracking.object_map(0).ravel()[:300].tolist() == list(range(1, 301))
    assert tracking.label_map(0).max() == 3


def test_a_sheet_shows_slices_where_something_is_as_long_as_they_are(volume, found):
    sheet = np.asarray(contact_sheet(volume, found))
    width, height = round(7 * 256 / 10), 256  # seven columns of 1 mm, five rows of 2 mm
    assert sheet.shape == (height, 3 * width, 3)  # slices 2, 3 and 4
    assert sheet[round(1.5 / 5 * height), round(2.5 / 7 * width)].tolist() == list(class_colour(2))  # its corner


# --- which inputs are stacks ------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    from pydicom import dcmread
    from pydicom.data import get_testdata_file

    values = np.random.default_rng(0).integers(1, 250, (7, 9, 5)).astype(np.int16)
    for name, array in (("volume.nii.gz", values), ("slice.nii.gz", values[..., :1]), ("many.nii", values[..., None])):
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / name)
    nibabel.save(nibabel.Nifti1Image(np.stack([values] * 2, 3), np.eye(4)), tmp_path / "4d.nii")
    single = dcmread(get_testdata_file("MR_small.dcm", download=False))
    for name in ("series", "images"):
        (tmp_path / name).mkdir()
    for number in range(3):
        single.ImagePositionPatient = [0, 0, 3.0 * number]
        single.SeriesInstanceUID = "1.2.3"
        single.save_as(tmp_path / "series" / f"{number}.dcm")
        single.SeriesInstanceUID = f"1.2.{number}"
        single.save_as(tmp_path / "images" / f"{number}.dcm")
    shutil.copy(get_testdata_file("MR_small.dcm", download=False), tmp_path / "single.dcm")
    shutil.copy(get_testdata_file("examples_ybr_color.dcm", download=False), tmp_path / "cine.dcm")
    (tmp_path / "series" / "thumb.png").write_bytes(b"x")
    (tmp_path / "frames").mkdir()
    for number in range(2):
        Image.new("L", (8, 8)).save(tmp_path / "frames" / f"{number}.png")
    Image.new("L", (8, 8)).save(tmp_path / "moving.gif", save_all=True, append_images=[Image.new("L", (8, 8), 9)])
    (tmp_path / "broken.nii").write_bytes(b"x" * 400)
    monkeypatch.chdir(tmp_path)
    return tmp_path


STACKS = ["4d.nii", "cine.dcm", "many.nii", "moving.gif", "volume.nii.gz", "series"]
IMAGES = [
    "broken.nii",
    "single.dcm",
    "slice.nii.gz",
    "images/0.dcm",
    "images/1.dcm",
    "images/2.dcm",
    "series/thumb.png",
]
FRAMES = ["frames/0.png", "frames/1.png"]


@pytest.mark.parametrize(
    ("frames", "stacks", "images"),
    [
        pytest.param(False, STACKS, IMAGES + FRAMES, id="pictures-are-images"),
        pytest.param(True, [*STACKS, "frames"], IMAGES, id="pictures-are-frames"),
    ],
)
def test_what_is_a_stack(tree, frames, stacks, images):
    found, errors = find_inputs(["."], frames=frames)
    assert errors == []
    assert sorted(str(path) for path in found if is_stack(path)) == sorted(stacks)
    assert sorted(str(path) for path in found if not is_stack(path)) == sorted(images)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["series", "volume.nii.gz"], ["series", "volume"]),
        (["moving.gif", "moving.mp4"], ["moving_gif", "moving_mp4"]),
    ],
)
def test_names_of_results(tree, words, names):
    assert [str(name) for name in output_names(map(Path, words)).values()] == names


def test_a_folder_that_is_named_by_a_dot_has_a_name(tree, monkeypatch):
    monkeypatch.chdir(tree / "series")
    (path, *_), _ = find_inputs(["."])
    assert str(output_names([path])[path]) == "series"


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def segment(release):
    def call(*words):
        options = "--weights", release.folder, "--precision", release.precisions[0]
        command = [sys.executable, "-m", "pipeline", "segment", *map(str, (*words, *options))]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)

    return call


def _data() -> Path:
    if "AUTOMEDSEG_DATA" not in os.environ:
        pytest.skip("AUTOMEDSEG_DATA names no folder")
    return Path(os.environ["AUTOMEDSEG_DATA"])


@pytest.mark.data
def test_a_real_volume_and_a_real_heart(segment, tmp_path):
    name = "hippocampus_260.nii.gz"
    image, truth = (nibabel.load(_data() / "msd_task04_hippocampus" / part / name) for part in ("imagesTr", "labelsTr"))
    nibabel.save(image.slicer[:, 20:28].as_reoriented(np.array([[2, -1], [0, 1], [1, -1]])), tmp_path / "scan.nii.gz")
    study = np.load(_data() / "sunnybrook_cardiac_cine" / "cine" / "SC-HF-I-01.npz")
    order = np.flatnonzero(study["slice_index"] == 5)[:6]
    with av.open(str(tmp_path / "heart.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "15"})
        stream.width = stream.height = 256
        for frame in study["frames"][order]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.repeat(frame[..., None], 3, 2), "rgb24")))
        container.mux(stream.encode())

    done = segment(tmp_path / "scan.nii.gz", tmp_path / "heart.mp4", "--out", tmp_path / "out", "--axis", "coronal")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(" in ")[0].split()[-2] for line in done.stdout.splitlines()] == ["hippocampus", "left_ventricle"]
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        *("scan.json", "scan_seg.nii.gz", "scan_objects.nii.gz", "scan_overlay.png"),
        *("heart.json", "heart_seg.npz", "heart_overlay.mp4"),
    }
    found, given = nibabel.load(out / "scan_seg.nii.gz"), nibabel.load(tmp_path / "scan.nii.gz")
    assert found.shape == given.shape and np.array_equal(found.affine, given.affine)
    mask = np.asarray(nibabel.as_closest_canonical(found).dataobj) == 2
    true = np.asarray(truth.slicer[:, 20:28].dataobj) > 0
    assert 2 * (mask & true).sum() / (mask.sum() + true.sum()) > 0.8
    (thing,) = json.loads((out / "scan.json").read_text("utf-8"))["objects"]
    assert thing["volume_ml"] == pytest.approx(mask.sum() / 1000)
    assert thing["span"] == [0, 7]
    record = json.loads((out / "heart.json").read_text("utf-8"))
    assert record["shape"] == [6, 256, 256] and record["frame_seconds"] == 0.04
    assert list(record["timings_ms"]) == ["read", "detect", "embed", "memory", "decode", "post", "total"]
    with np.load(out / "heart_seg.npz") as arrays:
        left_ventricle = (arrays["labels"] == 4).sum((1, 2)).tolist()
    assert record["objects"][0]["area_px"] == left_ventricle


def test_bad_inputs_do_not_stop_others(segment, tree, tmp_path):
    done = segment("--out", tmp_path / "out", "--axis", "2", "--classes", "lung", "--min-score", "1",
                   *(tree / name for name in ("4d.nii", "gone.mp4", "volume.nii.gz", "slice.nii.gz")))  # fmt: skip
    assert done.returncode == 2
    assert [line.split("; expected")[0] for line in done.stderr.splitlines()] == [
        f"{tree / 'gone.mp4'}: no such file or folder",
        f"{tree / '4d.nii'}: 4-D image (7, 9, 5, 2)",
    ]
    assert [line.split(" (")[0] for line in done.stdout.splitlines()] == [
        f"{tree / 'volume.nii.gz'}: nothing found",
        f"{tree / 'slice.nii.gz'}: nothing found",
    ]
    assert len(list((tmp_path / "out").iterdir())) == 4 + 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--axis", "3"], "argument --axis: '3'; expected 0 (sagittal), 1 (coronal) or 2 (axial)"),
        (["--window", "40"], "argument --window: '40'; expected center,width, the width above 0"),
        (["--window", "40,0"], "argument --window: '40,0'; expected center,width, the width above 0"),
    ],
)
def test_refused_options(segment, tmp_path, words, message):
    done = segment("a.nii", "--out", tmp_path / "out", *words)
    assert done.returncode == 2 and message in done.stderr


def test_a_box_is_for_images(segment, tree, tmp_path):
    done = segment(tree / "volume.nii.gz", "--out", tmp_path / "out", "--box", "1,1,3,3")
    assert done.returncode == 2
    expected = "a volume or a video, with --box; expected a single image with it"
    assert done.stderr == f"{tree / 'volume.nii.gz'}: {expected}\n"


def test_results_spare_inputs(segment, tree):
    shutil.copy(tree / "volume.nii.gz", tree / "volume_seg.nii.gz")
    before = (tree / "volume_seg.nii.gz").read_bytes()
    done = segment(tree / "volume.nii.gz", tree / "volume_seg.nii.gz", "--out", tree, "--axis", "2", "--min-score", "1")
    assert done.returncode == 2
    assert done.stderr.startswith(f"{tree / 'volume_seg.nii.gz'}: is an input that a result would overwrite")
    assert (tree / "volume_seg.nii.gz").read_bytes() == before


def test_paths_of_results():
    assert [path.name for path in stack_result_paths(Path("out"), Path("b/a"), "video")] == [
        "a_seg.npz", "a_overlay.mp4", "a.json",
    ]  # fmt: skip
