"""Folders of DICOM slices, and DICOM files of several frames."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, RLELossless, generate_uid

from pipeline.errors import InputError
from pipeline.stack import read_stack

#: Along a row (to the left), down the rows (to the back), from the feet to the head.
SLICES = np.random.default_rng(0).integers(0, 3000, (6, 8, 7)).astype(np.int16)
ONE_SERIES = "expected the slices of one series in a folder of their own"
NAME = "Doe^Jane"


@pytest.fixture(autouse=True)
def nothing_is_printed(capfd):
    yield
    assert capfd.readouterr() == ("", "")


def grey(values: np.ndarray = SLICES, low: float | None = None, high: float | None = None) -> np.ndarray:
    low, high = values.min() if low is None else low, values.max() if high is None else high
    return np.rint(((values - low) / (high - low)).clip(0, 1) * 255).astype(np.uint8)


def axial(voxels: np.ndarray) -> np.ndarray:
    """(along a row, down the rows, slice) -> slices with the patient's left at the left."""
    return voxels.transpose(2, 1, 0)[:, :, ::-1]


def write_series(
    folder: Path,
    voxels: np.ndarray = SLICES,
    *,
    places: list[float] | None = None,
    skip: tuple[int, ...] = (),
    uid: str | None = None,
    seed: int = 0,
    **tags,
) -> str:
    """One file a slice, 2 mm apart, under names that say nothing of their order. Returns the series' UID."""
    folder.mkdir(exist_ok=True)
    count, uid = voxels.shape[2], uid or generate_uid()
    places = places or [2.0 * number for number in range(count)]
    names = random.Random(seed).sample(range(1000), count)
    for number in set(range(count)) - set(skip):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, generate_uid()
        dataset.SeriesInstanceUID, dataset.PatientName = uid, NAME
        dataset.Rows, dataset.Columns = voxels.shape[1], voxels.shape[0]
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 15, 1, 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.ImagePositionPatient = [-10, -20, places[number]]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing = [1.5, 0.5]
        dataset.PixelData = voxels[:, :, number].T.tobytes()
        for keyword, value in tags.items():
            setattr(dataset, keyword, value[number] if isinstance(value, dict) else value)
        pydicom.dcmwrite(folder / f"IM{names[number]:04d}", dataset, enforce_file_format=True)
    return uid


def test_slices_come_in_the_order_of_their_positions(tmp_path):
    write_series(tmp_path / "a")
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / "a" / "DICOMDIR").write_bytes(Path(get_testdata_file("MR_small.dcm", download=False)).read_bytes())
    stack = read_stack(tmp_path / "a")
    assert np.array_equal(stack.frames, axial(grey()))
    assert (stack.kind, stack.axis, stack.spacing_mm, stack.notes) == ("volume", 2, (2, 1.5, 0.5), ())


def test_the_label_map_lies_where_the_slices_do(tmp_path):
    write_series(tmp_path / "a")
    stack = read_stack(tmp_path / "a")
    image = stack.to_file(stack.frames)
    affine = [[-0.5, 0, 0, 10], [0, -1.5, 0, 20], [0, 0, 2, 0], [0, 0, 0, 1]]  # of DICOM's left, back, head in RAS+
    assert image.affine.tolist() == affine and np.array_equal(np.asarray(image.dataobj), grey())
    nibabel.save(image, tmp_path / "a.nii.gz")
    again = read_stack(tmp_path / "a.nii.gz", window=(127.5, 255))
    assert np.array_equal(again.frames, stack.frames) and again.spacing_mm == stack.spacing_mm


@pytest.mark.data
def test_a_real_volume_as_dicom_is_the_volume(tmp_path):
    if "AUTOMEDSEG_DATA" not in os.environ:
        pytest.skip("AUTOMEDSEG_DATA names no folder")
    path = Path(os.environ["AUTOMEDSEG_DATA"], "msd_task04_hippocampus", "imagesTr", "hippocampus_001.nii.gz")
    voxels = np.asarray(nibabel.load(path).dataobj).astype(np.int16)
    write_series(tmp_path / "a", voxels[::-1, ::-1])
    stack = read_stack(tmp_path / "a", window=(60, 100))
    difference = stack.frames.astype(int) - read_stack(path, axis=2, window=(60, 100)).frames
    assert np.abs(difference).max() <= 1  # halves are rounded up or down


CUT = {"WindowCenter": "1000", "WindowWidth": "800", "VOILUTFunction": "LINEAR_EXACT"}
ODD_WINDOWS = {number: str(1000 if number == 3 else 5) for number in range(7)}


@pytest.mark.parametrize(
    ("tags", "window", "expected"),
    [
        pytest.param({}, None, grey(), id="from-least-to-largest-of-all-slices"),
        pytest.param(CUT, None, grey(low=600, high=1400), id="own-window"),
        pytest.param({**CUT, "WindowCenter": ODD_WINDOWS}, None, grey(low=600, high=1400), id="of-the-middle-slice"),
        pytest.param(CUT, (2000, 200), grey(low=1900, high=2100), id="window"),
        pytest.param(
            {"RescaleSlope": 2, "RescaleIntercept": -1000}, (0, 400), grey(SLICES * 2 - 1000, -200, 200), id="rescale"
        ),
        pytest.param({"PhotometricInterpretation": "MONOCHROME1"}, None, 255 - grey(), id="white-is-least"),
    ],
)
def test_windows(tmp_path, tags, window, expected):
    write_series(tmp_path / "a", **tags)
    assert np.array_equal(read_stack(tmp_path / "a", window=window).frames, axial(expected))


def test_a_tilted_gantry(tmp_path):
    positions = {number: [-10, -20 + 0.5 * number, 2.0 * number] for number in range(7)}
    write_series(tmp_path / "a", ImagePositionPatient=positions)
    stack = read_stack(tmp_path / "a")
    assert np.array_equal(stack.frames, axial(grey()))
    assert stack.steps_mm[0] == pytest.approx([0, -0.5, 2])
    assert abs(np.linalg.det(stack.steps_mm)) == pytest.approx(0.5 * 1.5 * 2)


def test_sagittal_slices(tmp_path):
    positions = {number: [2.0 * number, 5, 5] for number in range(7)}
    write_series(tmp_path / "a", ImagePositionPatient=positions, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    stack = read_stack(tmp_path / "a")
    assert stack.axis == 0
    # slices from left to right; in each the back at the left
    assert np.array_equal(stack.frames, grey().transpose(2, 1, 0)[::-1, :, ::-1])


# --- what is made good ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("skip", "sources", "note"),
    [
        pytest.param((3,), [0, 1, 2, 2, 4, 5, 6], "1 slice is missing (counted from feet to head: 4 of 7); ", id="one"),
        pytest.param((1, 4, 5), [0, 0, 2, 3, 3, 6, 6],
                     "3 slices are missing (counted from feet to head: 2, 5-6 of 7); ", id="several"),
    ],
)  # fmt: skip
def test_missing_slices(tmp_path, skip, sources, note):
    write_series(tmp_path / "a", skip=skip)
    stack = read_stack(tmp_path / "a", window=(1500, 3000))
    assert np.array_equal(stack.frames, axial(grey(low=0, high=3000))[sources])
    assert stack.spacing_mm == (2, 1.5, 0.5)
    assert stack.notes == (f"{note}copies of the neighbours stand in",)


def test_uneven_slices(tmp_path):
    write_series(tmp_path / "a", places=[0, 2, 4, 6, 9, 12, 15.0])
    stack = read_stack(tmp_path / "a")
    assert np.array_equal(stack.frames, axial(grey())) and stack.spacing_mm == (2.5, 1.5, 0.5)
    assert stack.notes == ("slices lie 2 to 3 mm apart; 2.5 mm is taken for all",)


def test_a_slice_that_is_there_twice(tmp_path):
    write_series(tmp_path / "a")
    for number, path in enumerate(sorted((tmp_path / "a").iterdir())[:2]):
        shutil.copy(path, tmp_path / "a" / f"copy{number}")
    stack = read_stack(tmp_path / "a")
    assert np.array_equal(stack.frames, axial(grey()))
    assert stack.notes == ("2 slices are there twice; each was taken once",)


def test_no_pixel_spacing(tmp_path):
    write_series(tmp_path / "a", PixelSpacing=[0, 0])
    stack = read_stack(tmp_path / "a")
    assert stack.spacing_mm is None and np.array_equal(stack.frames, grey().transpose(2, 1, 0)[:, ::-1])
    assert stack.notes == (
        "the file gives a distance of 0 mm, or none, between voxels: volumes and lengths are unknown",
    )


# --- what is refused --------------------------------------------------------------------------------------------------


def mixed(folder: Path) -> None:
    write_series(folder)
    write_series(folder, SLICES[:, :, :2], seed=1)
    write_series(folder, SLICES[:, :, :4], seed=2)


def phases(folder: Path) -> None:
    write_series(folder, SLICES[..., :3] + 1, uid=write_series(folder, SLICES[..., :3]), seed=5)


def two_sizes(folder: Path) -> None:
    write_series(folder, SLICES[:4], uid=write_series(folder), seed=5)


def cut_short(folder: Path) -> None:
    write_series(folder)
    path = next(iter(sorted(folder.iterdir())))
    path.write_bytes(path.read_bytes()[:-40])


ENTERED = "slices of different directions or pixel spacings in one series; " + ONE_SERIES
TILTED = {number: [1, 0, 0, 0, 1, 0] if number else [1, 0, 0, 0, 0, -1] for number in range(7)}
SPACINGS = {number: [1, 1] if number else [2, 2] for number in range(7)}
PIXELS = "its pixels can't be decoded (damaged, cut short, or an unsupported compression)"
WHOLE = "expected a whole DICOM file, uncompressed, RLE, JPEG, JPEG-LS or JPEG 2000"


@pytest.mark.parametrize(
    ("write", "message"),
    [
        pytest.param(mixed, f"3 series, of 7, 4 and 2 slices; {ONE_SERIES}", id="mixed-series"),
        pytest.param(phases, "3 more slices than positions, with other pixels, such as phases or echoes; expected one "
                     "slice a position: one phase or echo in a folder of its own", id="phases"),
        pytest.param(two_sizes, f"slices of different sizes in one series; {ONE_SERIES}", id="sizes"),
        pytest.param(lambda p: write_series(p, ImageOrientationPatient=TILTED), ENTERED, id="directions"),
        pytest.param(lambda p: write_series(p, PixelSpacing=SPACINGS), ENTERED, id="spacings"),
        pytest.param(lambda p: write_series(p, SLICES[..., :1]),
                     "a series of one slice; expected two slices or more; one alone is an image", id="one-slice"),
        pytest.param(lambda p: write_series(p, ImagePositionPatient=None),
                     "7 of 7 slices without a position; expected a position in each slice", id="no-positions"),
        pytest.param(lambda p: write_series(p, SLICES[..., [0, 0]], places=[4.0, 4.0]),
                     "slices that all lie at one position; expected two positions or more", id="one-position"),
    ],
)  # fmt: skip
def test_refused(tmp_path, write, message):
    write(tmp_path / "a")
    with pytest.raises(InputError) as error:
        read_stack(tmp_path / "a")
    assert str(error.value) == f"{tmp_path / 'a'}: {message}"


def test_a_slice_that_is_cut_short_is_named(tmp_path):
    cut_short(tmp_path / "a")
    path = next(iter(sorted((tmp_path / "a").iterdir())))
    with pytest.raises(InputError) as error:
        read_stack(tmp_path / "a")
    assert str(error.value) == f"{path}: {PIXELS}; {WHOLE}"


# --- several frames in one file ---------------------------------------------------------------------------------------


def write_enhanced(path: Path, order: list[int], **tags) -> Path:
    """An enhanced MR of all slices, its frames in the given order."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.SeriesInstanceUID = (
        "1.2.840.10008.5.1.4.1.1.4.1", generate_uid(), generate_uid(),
    )  # fmt: skip
    dataset.PatientName = NAME
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = SLICES.shape[1], SLICES.shape[0], len(order)
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 15, 1, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [1.5, 0.5]
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], []
    for number in order:
        group, place = Dataset(), Dataset()
        place.ImagePositionPatient = [-10, -20, 2.0 * number]
        group.PlanePositionSequence = [place]
        dataset.PerFrameFunctionalGroupsSequence.append(group)
    dataset.PixelData = np.ascontiguousarray(SLICES.transpose(2, 1, 0)[order]).tobytes()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def test_an_enhanced_volume_is_sorted(tmp_path):
    stack = read_stack(write_enhanced(tmp_path / "a.dcm", [3, 0, 6, 1, 5, 2, 4]))
    assert np.array_equal(stack.frames, axial(grey()))
    assert (stack.kind, stack.axis, stack.spacing_mm, stack.notes) == ("volume", 2, (2, 1.5, 0.5), ())


def test_frames_at_one_position_are_a_video(tmp_path):
    path = write_enhanced(tmp_path / "a.dcm", [0] * 3, FrameTime="40")
    stack = read_stack(path)
    assert (stack.kind, stack.frame_seconds, stack.frames.shape) == ("video", 0.04, (3, 8, 6))
    assert stack.spacing_mm == (0, 1.5, 0.5)


def test_an_ultrasound_cine():
    """Of 30 frames, YBR, that comes with pydicom."""
    path = Path(get_testdata_file("examples_ybr_color.dcm", download=False))
    stack = read_stack(path)
    assert (stack.kind, stack.frames.shape, stack.frame_seconds) == ("video", (30, 240, 320, 3), 0.033333)
    assert stack.spacing_mm == pytest.approx((0, 0.5105, 0.5105), abs=1e-4)
    assert np.array_equal(stack.frames, pydicom.dcmread(path).pixel_array)


@pytest.mark.parametrize(
    ("tags", "seconds"),
    [
        ({"FrameTime": "50"}, 0.05),
        ({"FrameTimeVector": ["0", "25", "25"]}, 0.025),
        ({"CineRate": "20"}, 0.05),
        ({"FrameTime": "0", "RecommendedDisplayFrameRate": "10"}, 0.1),
        ({"FrameTime": "-3"}, None),
        ({}, None),
    ],
)
def test_time_between_frames(tmp_path, tags, seconds):
    assert read_stack(write_enhanced(tmp_path / "a.dcm", [0] * 3, **tags)).frame_seconds == seconds


def test_eight_bits_stay_as_they_are(tmp_path):
    frames = np.arange(3 * 8 * 6, dtype=np.uint8).reshape(3, 8, 6)
    bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
    path = write_enhanced(tmp_path / "a.dcm", [0] * 3, **bits, PixelData=frames.tobytes())
    assert np.array_equal(read_stack(path).frames, frames)


def test_compressed_frames(tmp_path):
    path = write_enhanced(tmp_path / "a.dcm", [1, 0, 2])
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(path)
    assert np.array_equal(read_stack(path).frames, axial(grey(SLICES[..., :3])))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MR_small.dcm", "a DICOM file of one image; expected several frames, or the folder of its whole series"),
        ("rtstruct.dcm", "damaged, cut short, or of an unsupported variant; expected a whole DICOM file"),
    ],
)
def test_refused_files(name, message):
    path = Path(get_testdata_file(name, download=False))
    with pytest.raises(InputError) as error:
        read_stack(path)
    assert str(error.value) == f"{path}: {message}"


def test_frames_that_are_cut_short(tmp_path):
    path = write_enhanced(tmp_path / "a.dcm", [0] * 3)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="damaged, cut short"):
        read_stack(path)
