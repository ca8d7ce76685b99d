"""Volumes in one file: the same slices whatever the format and the order of the voxels, and the way back."""

from __future__ import annotations

import gzip
import itertools
import os
import zlib
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.readers import voxels
from pipeline.scan import read_scan
from pipeline.stack import Stack, read_stack

#: Left to right, back to front, feet to head; all different, and no two lengths the same.
VOXELS = (np.random.default_rng(0).permutation(7 * 9 * 5).reshape(7, 9, 5) * 30).astype(np.int16)
AFFINE = np.array([[1.5, 0, 0, -20], [0, 1.0, 0, 7], [0, 0, 4.0, 3], [0, 0, 0, 1]])
ORIENTATIONS = [
    np.stack([order, signs], axis=1)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
#: What becomes 0 and 255 of the volume above.
LOW, HIGH = np.percentile(VOXELS[VOXELS > 0].astype(np.float32), (0.5, 99.5))
GREY = np.round(((VOXELS.astype(np.float32) - LOW) / (HIGH - LOW)).clip(0, 1) * 255).astype(np.uint8)
VOLUMES = "expected a NIfTI, NRRD or MetaImage volume, a folder of DICOM slices or of frames, a DICOM file of several "
VOLUMES += "frames, or an MP4, MOV, AVI, Matroska, WebM or GIF video"


@pytest.fixture(autouse=True)
def nothing_is_printed(capfd):
    yield
    assert capfd.readouterr() == ("", "")


def save(path: Path, values: np.ndarray = VOXELS, affine: np.ndarray = AFFINE, **header) -> Path:
    image = nibabel.Nifti1Image(values, affine, dtype=values.dtype)
    image.header.set_xyzt_units("mm")
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def slices(canonical: np.ndarray, axis: int) -> np.ndarray:
    """Slices as training cuts them (`pipeline/datasets/volume_files.py`, slice_of)."""
    return np.stack([np.rot90(np.take(canonical, index, axis=axis)) for index in range(canonical.shape[axis])])


# --- orientation, axis, the way back --------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_along_each_axis(tmp_path, axis):
    stack = read_stack(save(tmp_path / "a.nii"), axis=axis)
    assert np.array_equal(stack.frames, slices(GREY, axis)) and stack.frames.dtype == np.uint8
    assert (stack.kind, stack.axis, stack.frame_seconds, stack.notes) == ("volume", axis, None, ())
    assert stack.spacing_mm == {0: (1.5, 4, 1), 1: (1, 4, 1.5), 2: (4, 1, 1.5)}[axis]
    assert np.array_equal(stack.pixels(2)[..., 1], slices(GREY, axis)[2])


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=lambda o: "".join(map(str, o.ravel())))
def test_every_order_of_voxels_gives_the_same_stack_and_its_own_file(tmp_path, orientation):
    turned = nibabel.load(save(tmp_path / "a.nii")).as_reoriented(orientation)
    nibabel.save(turned, tmp_path / "turned.nii.gz")
    stack = read_stack(tmp_path / "turned.nii.gz")
    assert np.array_equal(stack.frames, slices(GREY, 2)) and stack.spacing_mm == (4, 1, 1.5)
    back = stack.along(0).to_file(stack.along(0).frames)
    assert np.array_equal(np.asarray(back.dataobj), nibabel.apply_orientation(GREY, orientation))
    assert np.array_equal(back.affine, turned.affine) and back.get_data_dtype() == np.uint8


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [
        pytest.param((1, 1, 4), 2, id="axial"),
        pytest.param((3, 1, 1.1), 0, id="sagittal"),
        pytest.param((0.9, 5, 0.9), 1, id="coronal"),
        pytest.param((1, 1, 1), 2, id="as-long-in-all-directions"),
        pytest.param((1.2, 1, 1), 2, id="nearly"),
        pytest.param((4, 1, 4), 2, id="two-alike"),
    ],
)
def test_cut_as_it_was_made(tmp_path, spacing, axis):
    assert read_stack(save(tmp_path / "a.nii", affine=np.diag([*spacing, 1]))).axis == axis


def test_an_oblique_volume_is_cut_along_its_nearest_axes(tmp_path):
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([1.5, 1, 4])
    stack = read_stack(save(tmp_path / "a.nii", affine=affine))
    assert np.array_equal(stack.frames, slices(GREY, 2))
    assert stack.spacing_mm == pytest.approx((4, 1, 1.5))
    assert np.linalg.norm(stack.steps_mm, axis=1) == pytest.approx((4, 1, 1.5))
    assert stack.steps_mm[1] == pytest.approx(-affine[:3, 1])  # a row further down is further back
    assert abs(np.linalg.det(stack.steps_mm)) == pytest.approx(6)


def test_along_needs_no_copy_and_leads_back(tmp_path):
    stack = read_stack(save(tmp_path / "a.nii"))
    again = stack.along(1).along(0).along(2)
    assert np.array_equal(again.frames, stack.frames) and np.shares_memory(again.frames, stack.frames)
    assert (again.axis, again.spacing_mm) == (stack.axis, stack.spacing_mm)
    with pytest.raises(ValueError, match="can't be cut"):
        Stack(Path("a.mp4"), "video", np.zeros((2, 3, 4), np.uint8)).along(0)


def test_the_way_back_keeps_the_header_and_names_nobody(tmp_path):
    path = save(tmp_path / "a.nii", VOXELS[..., None], qform_code=1, sform_code=4, db_name=b"Doe^Jane",
                aux_file=b"Doe^Jane", descrip=b"Doe^Jane", scl_slope=2, scl_inter=5, cal_max=99)  # fmt: skip
    stack = read_stack(path)
    labels = np.zeros(stack.frames.shape, np.uint8)
    labels[1, 0, 0] = 7
    nibabel.save(stack.to_file(labels, "AutoMedSeg"), tmp_path / "seg.nii.gz")
    found, given = nibabel.load(tmp_path / "seg.nii.gz"), nibabel.load(path)
    assert found.shape == given.shape == (7, 9, 5, 1) and np.array_equal(found.affine, given.affine)
    assert np.argwhere(np.asarray(found.dataobj) == 7).tolist() == [[0, 8, 1, 0]]  # left, front, second from the feet
    for name in ("qform_code", "sform_code", "xyzt_units", "pixdim"):
        assert np.array_equal(found.header[name], given.header[name])
    assert b"Doe" not in gzip.decompress((tmp_path / "seg.nii.gz").read_bytes())
    assert found.header["descrip"] == b"AutoMedSeg"


def test_left_is_at_the_left_unlike_in_single_slices(tmp_path):
    stack = read_stack(save(tmp_path / "a.nii"))
    alone = read_scan(save(tmp_path / "slice.nii", VOXELS[:, :, 2:3])).pixels[..., 0].astype(int)
    turned = stack.frames[2][:, ::-1].astype(int)
    assert np.corrcoef(alone.ravel(), turned.ravel())[0, 1] > 0.999  # each has a window of its own


@pytest.mark.data
def test_a_real_volume_in_all_48_orientations(tmp_path):
    path = _data() / "msd_task04_hippocampus" / "imagesTr" / "hippocampus_260.nii.gz"
    stack, image = read_stack(path, axis=1), nibabel.load(path)
    for orientation in ORIENTATIONS:
        nibabel.save(image.as_reoriented(orientation), tmp_path / "a.nii")
        assert np.array_equal(read_stack(tmp_path / "a.nii", axis=1).frames, stack.frames)


def _data() -> Path:
    if "AUTOMEDSEG_DATA" not in os.environ:
        pytest.skip("AUTOMEDSEG_DATA names no folder")
    return Path(os.environ["AUTOMEDSEG_DATA"])


# --- formats --------------------------------------------------------------------------------------------------------

LPS = np.diag([-1.0, -1, 1, 1]) @ AFFINE


def write_nrrd(path: Path, values: np.ndarray = VOXELS, **fields) -> Path:
    header = {"space": "left-posterior-superior", "space directions": LPS[:3, :3].T, "space origin": LPS[:3, 3]}
    nrrd.write(str(path), values, {**header, **fields})
    return path


#: The header that ITK writes of the same volume.
MHA = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "-1 0 0 0 -1 0 0 0 1",
    "Offset": "20 -7 3",
    "CenterOfRotation": "0 0 0",
    "AnatomicalOrientation": "LPI",
    "ElementSpacing": "1.5 1 4",
    "DimSize": "7 9 5",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}


def write_mha(path: Path, data: bytes | None = None, **tags) -> Path:
    data = VOXELS.tobytes("F") if data is None else data
    tags = {**MHA, **tags}
    tags["ElementDataFile"] = tags.pop("ElementDataFile")  # the last one
    header = "".join(f"{tag} = {value}\n" for tag, value in tags.items())
    path.write_bytes(header.encode() + data)
    return path


def detached_mhd(path: Path, **tags) -> Path:
    path.with_suffix(".raw").write_bytes(VOXELS.tobytes("F"))
    return write_mha(path, b"", **{"ElementDataFile": path.with_suffix(".raw").name, **tags})


ZLIB = zlib.compress(VOXELS.tobytes("F"))


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda p: save(p / "a.nii"), id="nifti"),
        pytest.param(lambda p: save(p / "a.nii.gz"), id="nifti-gz"),
        pytest.param(lambda p: save(p / "a.nii", VOXELS.astype(">i2")), id="nifti-big-endian"),
        pytest.param(lambda p: save(p / "a.nii", VOXELS.astype(np.float64)), id="nifti-float64"),
        pytest.param(lambda p: save(p / "a.nii").rename(p / "a.nrrd"), id="nifti-by-another-name"),
        pytest.param(lambda p: write_nrrd(p / "a.nrrd"), id="nrrd-gzip"),
        pytest.param(lambda p: write_nrrd(p / "a.nrrd", encoding="raw"), id="nrrd-raw"),
        pytest.param(lambda p: write_nrrd(p / "a.nrrd", encoding="bzip2"), id="nrrd-bzip2"),
        pytest.param(lambda p: write_nrrd(p / "a.nrrd", VOXELS.astype(">i2")), id="nrrd-big-endian"),
        pytest.param(lambda p: write_nrrd(p / "a.nhdr"), id="nhdr"),
        pytest.param(
            lambda p: write_nrrd(
                p / "a.nrrd",
                **{"space": "RAS", "space directions": AFFINE[:3, :3].T, "space origin": AFFINE[:3, 3]},
            ),
            id="nrrd-ras",
        ),
        pytest.param(
            lambda p: write_nrrd(
                p / "a.nrrd", VOXELS[None],
                **{"space directions": np.vstack([np.full(3, np.nan), LPS[:3, :3].T]),
                   "kinds": ["list", "domain", "domain", "domain"]},
            ),
            id="nrrd-list-of-one",
        ),
        pytest.param(lambda p: write_mha(p / "a.mha"), id="mha"),
        pytest.param(lambda p: write_mha(p / "a.mha", ZLIB, CompressedData="True", CompressedDataSize=str(len(ZLIB))),
                     id="mha-zlib"),
        pytest.param(lambda p: write_mha(p / "a.mha", VOXELS.astype(">i2").tobytes("F"), BinaryDataByteOrderMSB="True"),
                     id="mha-big-endian"),
        pytest.param(lambda p: write_mha(p / "a.mha", NDims="4", DimSize="7 9 5 1", ElementSpacing="1.5 1 4 1",
                                         Offset="20 -7 3 0", TransformMatrix="-1 0 0 0 0 -1 0 0 0 0 1 0 0 0 0 1"),
                     id="mha-4d-of-one"),
        pytest.param(lambda p: detached_mhd(p / "a.mhd"), id="mhd"),
    ],
)  # fmt: skip
def test_formats(tmp_path, write):
    stack = read_stack(write(tmp_path))
    assert np.array_equal(stack.frames, slices(GREY, 2))
    assert stack.spacing_mm == (4, 1, 1.5)
    assert stack.grid.affine == pytest.approx(AFFINE)
    assert np.array_equal(np.asarray(stack.to_file(stack.frames).dataobj), GREY)
    assert stack.to_file(stack.frames).affine == pytest.approx(AFFINE)


def test_colours_are_taken_as_they_are(tmp_path):
    colours = np.random.default_rng(1).integers(0, 256, (7, 9, 5, 3), np.uint8)
    save(tmp_path / "a.nii", colours.view([(name, "u1") for name in "RGB"])[..., 0])
    directions = np.vstack([np.full(3, np.nan), LPS[:3, :3].T])
    kinds = ["RGB-color", "domain", "domain", "domain"]
    write_nrrd(tmp_path / "a.nrrd", np.moveaxis(colours, -1, 0), **{"space directions": directions, "kinds": kinds})
    data = np.moveaxis(colours, -1, 0).tobytes("F")
    write_mha(tmp_path / "a.mha", data, ElementNumberOfChannels="3", ElementType="MET_UCHAR")
    for name in ("a.nii", "a.nrrd", "a.mha"):
        stack = read_stack(tmp_path / name, axis=2)
        assert np.array_equal(stack.frames, slices(colours, 2)), name
        assert np.array_equal(stack.pixels(3), slices(colours, 2)[3])


# --- intensities ----------------------------------------------------------------------------------------------------


def to_grey(low: float, high: float, values: np.ndarray = VOXELS) -> np.ndarray:
    return np.round(((values.astype(np.float32) - low) / (high - low)).clip(0, 1) * 255).astype(np.uint8)


CT = (VOXELS // 4 - 1000).astype(np.int16)


@pytest.mark.parametrize(
    ("values", "window", "header", "expected"),
    [
        pytest.param(VOXELS, None, {}, GREY, id="percentiles-of-what-is-above-zero"),
        pytest.param(VOXELS, (3000, 2000), {}, to_grey(2000, 4000), id="window"),
        pytest.param(CT, (0, 400), {}, to_grey(-200, 200, CT), id="window-of-ct"),
        pytest.param(VOXELS - 300, None, {}, to_grey(-300, VOXELS.max() - 300, VOXELS - 300), id="negative-values"),
        pytest.param(VOXELS, (105, 100), {"scl_slope": 2, "scl_inter": 5}, to_grey(25, 75), id="slope-and-intercept"),
        pytest.param(VOXELS * 0 + 7, None, {}, np.zeros_like(GREY), id="constant"),
        pytest.param(VOXELS * 0, None, {}, np.zeros_like(GREY), id="empty"),
    ],
)
def test_windows(tmp_path, values, window, header, expected):
    image = nibabel.Nifti1Image(values, AFFINE, dtype=values.dtype)
    image.header.set_slope_inter(header.get("scl_slope", 1), header.get("scl_inter", 0))
    raw = image.header.copy()
    nibabel.save(image, tmp_path / "a.nii")
    if header:  # nibabel would scale what it writes
        content = bytearray((tmp_path / "a.nii").read_bytes())
        content[112:120] = np.array([raw["scl_slope"], raw["scl_inter"]], np.float32).tobytes()
        content[352:] = values.tobytes("F")
        (tmp_path / "a.nii").write_bytes(content)
    assert np.array_equal(read_stack(tmp_path / "a.nii", window=window).frames, slices(expected, 2))


def test_ct_is_told_to_have_a_window(tmp_path):
    (note,) = read_stack(save(tmp_path / "a.nii", CT)).notes
    assert note.startswith(
        f"values from {CT.min()} to {CT.max()} look like CT; --window shows less and clearer: 40,400"
    )
    assert read_stack(save(tmp_path / "a.nii", CT), window=(40, 400)).notes == ()


def test_nan_and_infinity_count_as_the_least(tmp_path):
    values = VOXELS.astype(np.float32)
    values[0, 0, 0], values[1, 1, 1] = np.nan, np.inf
    stack = read_stack(save(tmp_path / "a.nii", values))
    assert stack.notes == ("2 voxels are NaN or infinite; they count as the least value",)
    assert stack.frames[0, -1, 0] == stack.frames[1, -2, 1] == 0


def test_a_large_volume_lies_in_a_file_and_is_the_same(tmp_path, monkeypatch):
    expected = read_stack(save(tmp_path / "a.nii.gz")).frames
    monkeypatch.setattr("pipeline.scratch.IN_MEMORY", 100)
    stack = read_stack(tmp_path / "a.nii.gz")
    base = stack.frames
    while base.base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    assert np.array_equal(stack.frames, expected)


# --- what is refused, and what is made good ---------------------------------------------------------------------------


def nan(values: np.ndarray) -> np.ndarray:
    return np.full(values.shape, np.nan, np.float32)


def cut(path: Path, length: int) -> Path:
    path.write_bytes(path.read_bytes()[:length])
    return path


def link_to_secret(path: Path) -> Path:
    header = detached_mhd(path)
    (path.parent / "secret").write_bytes(path.with_suffix(".raw").read_bytes())
    path.with_suffix(".raw").unlink()
    path.with_suffix(".raw").symlink_to("secret")
    return header


DAMAGED = "damaged, cut short, or of an unsupported variant; expected a whole {} file"
BESIDE = "expected them in one file beside the header"


@pytest.mark.parametrize(
    ("write", "message"),
    [
        pytest.param(lambda p: p / "a.nii", f"no such file; {VOLUMES}", id="missing"),
        pytest.param(lambda p: save(p / "a.nii", np.stack([VOXELS] * 3, 3)),
                     "4-D image (7, 9, 5, 3); expected 3-D. Pick one volume first.", id="4d"),
        pytest.param(lambda p: save(p / "a.nii", VOXELS[:, :, :1]),
                     "a volume of 7x9x1 voxels; expected two slices or more; one alone is an image", id="one-slice"),
        pytest.param(lambda p: save(p / "a.nii", VOXELS[:, :, 0]),
                     "a volume of 7x9x1 voxels; expected two slices or more; one alone is an image", id="2d"),
        pytest.param(lambda p: save(p / "a.nii", nan(VOXELS)),
                     "holds NaN or infinite values only, or too large ones; expected finite intensities", id="nan"),
        pytest.param(lambda p: save(p / "a.nii", VOXELS.astype(np.complex64)),
                     "complex numbers; expected real numbers or RGB colours", id="complex"),
        pytest.param(lambda p: cut(save(p / "a.nii"), 700), DAMAGED.format("NIfTI"), id="nifti-cut-short"),
        pytest.param(lambda p: cut(save(p / "a.nii.gz"), 600), DAMAGED.format("NIfTI"), id="nifti-gz-cut-short"),
        pytest.param(lambda p: cut(write_nrrd(p / "a.nrrd"), 500), DAMAGED.format("NRRD"), id="nrrd-cut-short"),
        pytest.param(lambda p: cut(write_mha(p / "a.mha"), 900), DAMAGED.format("MetaImage"), id="mha-cut-short"),
        pytest.param(lambda p: write_mha(p / "a.mha", DimSize="70000 70000 70000"),
                     "a volume of 70000x70000x70000 voxels; expected at most 600 million voxels", id="too-large"),
        pytest.param(lambda p: write_mha(p / "a.mha", DimSize="7 0 5"),
                     "a volume of 7x0x5 voxels; expected at least one voxel", id="no-voxels"),
        pytest.param(lambda p: write_mha(p / "a.mha", ElementType="MET_BANANA"),
                     "MetaImage of type 'MET_BANANA'; expected whole numbers, MET_FLOAT or MET_DOUBLE, binary",
                     id="mha-type"),
        pytest.param(lambda p: write_mha(p / "a.mha", ElementNumberOfChannels="2"),
                     "2 channels of type MET_SHORT; expected grey, or MET_UCHAR colours", id="two-channels"),
        pytest.param(lambda p: detached_mhd(p / "a.mhd", ElementDataFile="/etc/passwd"),
                     f"voxels in another folder; {BESIDE}", id="absolute-path"),
        pytest.param(lambda p: detached_mhd(p / "a.mhd", ElementDataFile="../a.raw"),
                     f"voxels in another folder; {BESIDE}", id="folder-above"),
        pytest.param(lambda p: detached_mhd(p / "a.mhd", ElementDataFile="LIST"),
                     f"voxels in several files; {BESIDE}", id="list-of-files"),
        pytest.param(lambda p: detached_mhd(p / "a.mhd", ElementDataFile="a%03d.raw 1 5 1"),
                     f"voxels in several files; {BESIDE}", id="pattern-of-files"),
        pytest.param(lambda p: link_to_secret(p / "a.mhd"),
                     "the file with its voxels is missing; expected it beside the header, under the name it gives",
                     id="link"),
        pytest.param(lambda p: write_nrrd(p / "a.nrrd", encoding="ASCII"),
                     "NRRD with encoding 'ASCII'; expected raw, gzip or bzip2", id="nrrd-text"),
    ],
)  # fmt: skip
def test_refused(tmp_path, write, message):
    path = write(tmp_path)
    with pytest.raises(InputError) as error:
        read_stack(path)
    assert str(error.value) == f"{path}: {message}"


def test_a_small_file_that_would_unzip_to_much_is_refused(tmp_path):
    """Behind the voxels, before them in a file that says to skip some, and in a header without end."""
    path = save(tmp_path / "a.nii")
    zipped = tmp_path / "a.nii.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes() + bytes(80 << 20)))
    skip = write_nrrd(tmp_path / "a.nrrd", encoding="raw")
    skip.write_bytes(skip.read_bytes().replace(b"encoding: raw", b"byte skip: 999999999999\nencoding: raw"))
    endless = tmp_path / "b.nrrd"
    endless.write_bytes(b"NRRD0005\n" + b"# a\n" * (1 << 19))
    for name, kind in ((zipped, "NIfTI"), (skip, "NRRD"), (endless, "NRRD")):
        with pytest.raises(InputError) as error:
            read_stack(name)
        assert str(error.value) == f"{name}: {DAMAGED.format(kind)}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"axis": 3}, "axis: 3; expected 0 (right), 1 (front) or 2 (head)"),
        ({"window": (40, 0)}, "window: (40, 0); expected a centre, and a width above 0"),
        ({"window": (np.nan, 1)}, "window: (nan, 1); expected a centre, and a width above 0"),
    ],
)
def test_refused_settings(tmp_path, settings, message):
    with pytest.raises(InputError) as error:
        read_stack(save(tmp_path / "a.nii"), **settings)
    assert str(error.value) == message


def test_no_distance_between_voxels(tmp_path):
    note = "the file gives a distance of 0 mm, or none, between voxels: volumes and lengths are unknown"
    content = bytearray(save(tmp_path / "a.nii").read_bytes())
    content[88:92] = content[320:324] = bytes(4)  # pixdim[3] and srow_z[2], which nibabel does not write as 0
    (tmp_path / "a.nii").write_bytes(content)
    for path in (tmp_path / "a.nii", write_mha(tmp_path / "a.mha", ElementSpacing="1.5 1 0")):
        stack = read_stack(path)
        assert (stack.spacing_mm, stack.steps_mm, stack.notes) == (None, None, (note,))
        assert np.array_equal(stack.frames, slices(GREY, 2))
        assert stack.to_file(stack.frames).shape == (7, 9, 5)


def test_metres(tmp_path):
    path = save(tmp_path / "a.nii", affine=AFFINE / 1000, xyzt_units=1)
    assert read_stack(path).spacing_mm == pytest.approx((4, 1, 1.5))


def test_the_limit_is_on_what_is_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(voxels, "MAX_VOXELS", 300)
    with pytest.raises(InputError, match="a volume of 7x9x5 voxels; expected at most 0 million voxels"):
        read_stack(save(tmp_path / "a.nii"))
