"""Volumes and videos with changed, lost and inserted bytes: a stack or a sentence, and nothing printed."""

from __future__ import annotations

import random
from pathlib import Path

import av
import nibabel
import nrrd
import numpy as np
import pytest
from pydicom.data import get_testdata_file

from pipeline.errors import InputError
from pipeline.inputs import is_stack
from pipeline.stack import read_stack

VOXELS = np.random.default_rng(0).integers(0, 900, (7, 9, 5)).astype(np.int16)
_MHA = "ObjectType = Image\nNDims = 3\nDimSize = 7 9 5\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
_NUMBERS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f")


def write_nifti(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(VOXELS, np.eye(4)), path)


def write_nrrd(path: Path) -> None:
    nrrd.write(str(path), VOXELS, {"space": "RAS", "space directions": np.eye(3), "space origin": np.zeros(3)})


def write_mha(path: Path) -> None:
    path.write_bytes(_MHA.encode() + VOXELS.tobytes("F"))


def write_video(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream({".gif": "gif", ".avi": "mpeg4"}.get(path.suffix, "libx264"), rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "rgb8" if path.suffix == ".gif" else "yuv420p"
        for value in range(0, 200, 40):
            frame = np.full((24, 32, 3), value, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())


def write_dicom(path: Path) -> None:
    path.write_bytes(Path(get_testdata_file("rtdose_rle.dcm", download=False)).read_bytes())


def changed(content: bytes, chance: random.Random) -> bytes:
    """Cut short, or with a few bytes changed, inserted or lost, most of them in the header."""
    if chance.random() < 0.15:
        return content[: chance.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        place = chance.randrange(min(len(changed), 700 if chance.random() < 0.7 else len(changed)))
        match chance.randrange(4):
            case 0:
                changed[place] = chance.randrange(256)
            case 1:
                changed[place : place + 4] = chance.choice(_NUMBERS)
            case 2:
                changed[place:place] = bytes(chance.choices(b"0123456789-e. %\n", k=3))
            case 3:
                del changed[place : place + chance.randrange(1, 9)]
    return bytes(changed)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.nii", write_nifti),
        ("a.nii.gz", write_nifti),
        ("a.nrrd", write_nrrd),
        ("a.mha", write_mha),
        ("a.mp4", write_video),
        ("a.avi", write_video),
        ("a.mkv", write_video),
        ("a.gif", write_video),
        ("a.dcm", write_dicom),
    ],
)
def test_a_stack_or_a_sentence(tmp_path, capfd, name, write):
    path, chance = tmp_path / name, random.Random(name)
    write(path)
    whole = path.read_bytes()
    assert is_stack(path) and len(read_stack(path)) >= 5
    refused = 0
    for _ in range(60):
        path.write_bytes(changed(whole, chance))
        is_stack(path)
        try:
            stack = read_stack(path)
            if stack.grid is not None:
                assert stack.to_file(stack.frames).shape[:3] == stack.grid.shape
        except InputError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ") and len(str(error).splitlines()) == 1
    assert refused
    assert capfd.readouterr() == ("", "")
