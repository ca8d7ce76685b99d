"""What the soak's clients upload: good files, bad ones, and large ones."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from pipeline.phantoms import write_phantoms, write_stack_phantoms

_BIG = (3000, 4000)


def write_soak_files(folder: Path) -> dict[str, Path]:
    """Name -> path of each file, all made here or pydicom's own."""
    drawn = folder / "drawn"
    drawn.mkdir()
    pictures = {caption: path for path, caption in write_phantoms(drawn)}
    files = {
        "chest": pictures["Phantom: chest X-ray"],
        "brain": pictures["Phantom: brain MRI"],
        "polyp": pictures["Phantom: colonoscopy"],
        "dicom": Path(get_testdata_file("CT_small.dcm", download=False)),
    }
    (volume, _), (video, _) = write_stack_phantoms(drawn)
    files["video"], files["volume"], files["nifti"] = video, folder / "heart.nii.gz", folder / "slice.nii.gz"
    image = nibabel.load(volume)
    nibabel.save(image.slicer[..., :4], files["volume"])
    nibabel.save(image.slicer[..., 3:4], files["nifti"])
    chance = np.random.default_rng(0)
    files["long"] = folder / "long.nii.gz"
    voxels = chance.integers(0, 900, (96, 96, 600)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1, 1, 4, 1])), files["long"])
    files["big"] = folder / "big.png"
    Image.fromarray(chance.integers(0, 256, (*_BIG, 3), np.uint8)).save(files["big"], compress_level=1)
    files["series"] = _series(folder / "series.zip")
    files["text"], files["cut"], files["bomb"], files["empty_zip"] = (
        folder / name for name in ("notes.png", "cut.png", "bomb.png", "empty.zip")
    )
    files["text"].write_text("not an image\n" * 9)
    files["cut"].write_bytes(files["chest"].read_bytes()[:2000])
    files["bomb"].write_bytes(_bomb())
    with zipfile.ZipFile(files["empty_zip"], "w") as archive:
        archive.writestr("readme.txt", "nothing")
    return files


def _series(path: Path) -> Path:
    """Four slices of a CT, zipped."""
    series = generate_uid()
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(4):
            dataset = dcmread(get_testdata_file("CT_small.dcm", download=False))
            dataset.SeriesInstanceUID, dataset.ImagePositionPatient = series, [0, 0, 5.0 * number]
            content = io.BytesIO()
            dataset.save_as(content)
            archive.writestr(f"{number}.dcm", content.getvalue())
    return path


def _bomb() -> bytes:
    """A PNG of a few hundred bytes that says it has 3,600 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
