"""Small real files of every kind that is read: what the mutations start from."""

from __future__ import annotations

import io
import json
import os
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np
import pydicom
from PIL import Image
from pycocotools import mask as coco_mask
from pydicom.uid import generate_uid

from hub import resolve
from pipeline.readers.dicom_frames import frame_count

#: A larger file is left out: one input should take milliseconds.
_MOST_BYTES = 80_000
_VOXELS = np.random.default_rng(0).integers(0, 900, (7, 9, 5)).astype(np.int16)
_PICTURE = np.random.default_rng(1).integers(0, 256, (24, 31, 3)).astype(np.uint8)
_DATA = os.environ.get("AUTOMEDSEG_DATA")
_PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
_NIBABEL = Path(nibabel.__file__).parent / "tests" / "data"


@dataclass(frozen=True)
class Seed:
    """A good input: one file, or a folder of several (`files` maps a name to its bytes)."""

    name: str
    files: dict[str, bytes]

    @classmethod
    def of(cls, name: str, content: bytes) -> Seed:
        return cls(name, {name: content})


@cache
def seeds_of(kind: str) -> tuple[Seed, ...]:
    """The seeds of one of `KINDS`, the same in every run."""
    return tuple(KINDS[kind]())


def _saved(suffix: str, save: Callable[[Path], object]) -> bytes:
    """What a writer that wants a path writes."""
    with TemporaryDirectory() as folder:
        path = Path(folder, f"seed{suffix}")
        save(path)
        return re.sub(rb"# on [^\n]*\n", b"", path.read_bytes())  # when an NRRD file was written


def _real(pattern: str, count: int, suffix: str) -> Iterator[Seed]:
    """Small files of AUTOMEDSEG_DATA, where it is set."""
    found = sorted(Path(_DATA).glob(pattern)) if _DATA else []
    small = [path for path in found if path.stat().st_size <= _MOST_BYTES]
    for number, path in enumerate(random.Random(0).sample(small, min(count, len(small)))):
        yield Seed.of(f"real{number}{suffix}", path.read_bytes())


def _picture(name: str, mode: str, **settings) -> Seed:
    image = Image.fromarray(_PICTURE).convert("L" if mode in ("I;16", "F", "I") else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    elif mode in ("F", "I"):
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, **settings)
    return Seed.of(name, buffer.getvalue())


def _pngs() -> Iterator[Seed]:
    for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16"):
        yield _picture(f"{mode.replace(';', '')}.png", mode, format="PNG")
    yield _picture("moving.png", "RGB", format="PNG", save_all=True, append_images=[Image.new("RGB", (31, 24))])
    yield from _real("**/*.png", 2, ".png")


def _jpegs() -> Iterator[Seed]:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "turned"
    yield _picture("grey.jpg", "L", format="JPEG")
    yield _picture("turned.jpg", "RGB", format="JPEG", exif=exif)
    yield _picture("progressive.jpg", "RGB", format="JPEG", progressive=True, quality=40)
    yield _picture("cmyk.jpg", "CMYK", format="JPEG")
    yield _picture("pair.jpg", "RGB", format="MPO", save_all=True, append_images=[Image.new("RGB", (31, 24))])
    yield from _real("**/*.jpg", 2, ".jpg")


def _tiffs() -> Iterator[Seed]:
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        for mode in ("1", "L", "RGB", "RGBA", "I;16", "F"):
            yield _picture(f"{mode.replace(';', '')}_{compression}.tif", mode, format="TIFF", compression=compression)
    yield _picture("fax.tif", "1", format="TIFF", compression="group4")
    yield _picture("jpeg.tif", "RGB", format="TIFF", compression="jpeg")
    yield _picture("pages.tif", "L", format="TIFF", save_all=True, append_images=[Image.new("L", (9, 9))])
    yield _picture("big.tif", "RGB", format="TIFF", big_tiff=True)


def _dicoms(several_frames: bool) -> Iterator[Seed]:
    """pydicom's own: every compression, palettes, overlays, broken ones."""
    for path in sorted(_PYDICOM.glob("*.dcm")):
        if 0 < path.stat().st_size <= _MOST_BYTES and (frame_count(path) > 1) == several_frames:
            yield Seed.of(path.name, path.read_bytes())


def _series() -> Iterator[Seed]:
    for name in ("MR_small.dcm", "MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm"):
        files, series = {}, generate_uid(entropy_srcs=[name])
        for number in range(4):
            dataset = pydicom.dcmread(_PYDICOM / name)
            dataset.SeriesInstanceUID, dataset.InstanceNumber = series, number + 1
            dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            dataset.ImagePositionPatient = [0, 0, 3.0 * number]
            buffer = io.BytesIO()
            dataset.save_as(buffer)
            files[f"{number}.dcm"] = buffer.getvalue()
        yield Seed(name, files)


def nifti(voxels: np.ndarray, kind: type = nibabel.Nifti1Image, **header) -> bytes:
    """A NIfTI file, not zipped; `header` sets fields."""
    image = kind(voxels, np.diag([1.5, 2, 2.5, 1]), dtype=voxels.dtype)
    for name, value in header.items():
        image.header[name] = value
    return image.to_bytes()


def gzipped(content: bytes) -> bytes:
    import gzip

    return gzip.compress(content, mtime=0)


def _slices() -> Iterator[Seed]:
    plain = nifti(_VOXELS[..., 0])
    yield Seed.of("plain.nii", plain)
    yield Seed.of("zipped.nii.gz", gzipped(plain))
    yield Seed.of("float.nii.gz", gzipped(nifti(_VOXELS[:1].astype(np.float64))))
    yield Seed.of("second.nii", nifti(_VOXELS[:, :1].astype(np.uint8), nibabel.Nifti2Image))
    yield Seed.of("scaled.nii", nifti(_VOXELS[..., 0], scl_slope=0.5, scl_inter=-3))
    colours = np.zeros((7, 9, 1), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    yield Seed.of("colours.nii", nibabel.Nifti1Image(colours, np.eye(4)).to_bytes())
    extended = nibabel.Nifti1Image(_VOXELS[..., 0], np.eye(4))
    extended.header.extensions.append(nibabel.nifti1.Nifti1Extension(6, b"a comment of some length"))
    yield Seed.of("extended.nii", extended.to_bytes())


def _volumes() -> Iterator[Seed]:
    plain = nifti(_VOXELS)
    yield Seed.of("plain.nii", plain)
    yield Seed.of("zipped.nii.gz", gzipped(plain))
    yield Seed.of("second.nii.gz", gzipped(nifti(_VOXELS.astype(np.float32), nibabel.Nifti2Image)))
    yield Seed.of("scaled.nii", nifti(_VOXELS, scl_slope=2, scl_inter=-1000, xyzt_units=1))
    for name in ("anatomical.nii", "reoriented_anat_moved.nii", "resampled_anat_moved.nii", "functional.nii"):
        path = _NIBABEL / name
        if path.is_file() and path.stat().st_size <= _MOST_BYTES:
            yield Seed.of(name, path.read_bytes())
    yield from _real("*/imagesTr/*.nii.gz", 2, ".nii.gz")


def _nrrds() -> Iterator[Seed]:
    import nrrd

    space = {"space": "RAS", "space directions": np.eye(3), "space origin": np.zeros(3)}
    for encoding in ("raw", "gzip", "bzip2"):
        yield Seed.of(
            f"{encoding}.nrrd",
            _saved(".nrrd", lambda path, by=encoding: nrrd.write(str(path), _VOXELS, space | {"encoding": by})),
        )
    colours = np.zeros((3, 7, 9, 5), np.uint8)
    about = {"kinds": ["RGB-color", "space", "space", "space"], "spacings": [float("nan"), 1, 2, 3]}
    yield Seed.of("colours.nrrd", _saved(".nrrd", lambda path: nrrd.write(str(path), colours, about)))
    header = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 7 9 5\nencoding: raw\nendian: little\nbyte skip: -1\n"
    yield Seed.of("skipped.nrrd", header + b"\nand a gap" + _VOXELS.tobytes("F"))
    alone = header.replace(b"byte skip: -1", b"data file: voxels.raw")
    yield Seed("beside.nhdr", {"beside.nhdr": alone, "voxels.raw": _VOXELS.tobytes("F")})


def _metaimages() -> Iterator[Seed]:
    import zlib

    lines = ["ObjectType = Image", "NDims = 3", "DimSize = 7 9 5", "ElementType = MET_SHORT"]
    placed = ["ElementSpacing = 1 2 3", "Offset = 0 0 0", "TransformMatrix = 1 0 0 0 1 0 0 0 1"]
    data = _VOXELS.tobytes("F")

    def header(*more: str) -> bytes:
        return "\n".join([*lines, *placed, *more, ""]).encode()

    yield Seed.of("plain.mha", header("ElementDataFile = LOCAL") + data)
    squeezed = zlib.compress(data)
    told = header("CompressedData = True", f"CompressedDataSize = {len(squeezed)}", "ElementDataFile = LOCAL")
    yield Seed.of("squeezed.mha", told + squeezed)
    yield Seed.of("skipped.mha", header("HeaderSize = -1", "ElementDataFile = LOCAL") + data)
    yield Seed("beside.mhd", {"beside.mhd": header("ElementDataFile = voxels.raw"), "voxels.raw": data})


def _video(suffix: str) -> bytes:
    import av

    codec, pixels = {"gif": ("gif", "rgb8"), "avi": ("mpeg4", "yuv420p")}.get(suffix, ("libx264", "yuv420p"))

    def save(path: Path) -> None:
        with av.open(str(path), "w", options={"fflags": "bitexact"}) as container:
            stream = container.add_stream(codec, rate=10)
            stream.width, stream.height, stream.pix_fmt = 32, 24, pixels
            for value in range(0, 200, 40):
                frame = np.full((24, 32, 3), value, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
            container.mux(stream.encode())

    return _saved(f".{suffix}", save)


def _movies(*suffixes: str) -> Callable[[], Iterator[Seed]]:
    return lambda: (Seed.of(f"video.{suffix}", _video(suffix)) for suffix in suffixes)


def _gifs() -> Iterator[Seed]:
    yield Seed.of("video.gif", _video("gif"))
    first, *others = [Image.fromarray(np.roll(_PICTURE, step, 0)).quantize(16) for step in range(4)]
    buffer = io.BytesIO()
    first.save(buffer, format="GIF", save_all=True, append_images=others, duration=40, disposal=2)
    yield Seed.of("pillow.gif", buffer.getvalue())


def _archives() -> Iterator[Seed]:
    for number, series in enumerate(_series()):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in series.files.items():
                entry = zipfile.ZipInfo(f"CT/{name}")  # of the same moment in every run
                archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
        yield Seed.of(f"series{number}.zip", buffer.getvalue())


def _releases() -> Iterator[Seed]:
    """What is read of a release before its graphs are: those are known by their sha256."""
    folder = resolve().folder
    yield Seed("release", {name: (folder / name).read_bytes() for name in ("manifest.json", "config.json")})


def rle(mask: np.ndarray) -> dict:
    """A mask as the command line's JSON holds it."""
    found = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": found["counts"].decode("ascii")}


def _masks() -> Iterator[Seed]:
    mask = np.random.default_rng(2).random((24, 31)) > 0.7
    yield Seed.of("compressed.json", json.dumps(rle(mask)).encode())
    flat = np.flatnonzero(np.diff(np.concatenate([[0], mask.ravel(order="F"), [0]])))
    counts = np.diff([0, *flat, mask.size]).tolist()
    yield Seed.of("plain.json", json.dumps({"size": [24, 31], "counts": counts}).encode())


def _edits() -> Iterator[Seed]:
    edits = [
        {"action": "add", "box": [4, 5, 20, 11.5], "label": "polyp"},
        {"action": "box", "region": 1, "box": [2, 3, 9, 9]},
        {"action": "click", "region": 1, "point": [8, 9], "inside": False},
        {"action": "relabel", "region": 1, "label": "lung"},
        {"action": "delete", "region": 1},
    ]
    yield Seed.of("edits.json", json.dumps(edits).encode())


def _coco() -> Iterator[Seed]:
    """A data set of one image, as `prepare` takes it."""
    mask = np.zeros((24, 31), bool)
    mask[4:19, 6:22] = True
    image = {"id": 1, "file_name": "a.png", "width": 31, "height": 24, "patient": "p", "series": "s", "slice_index": 0}
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [6, 4, 16, 15], "segmentation": rle(mask), "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [6, 4, 16, 15], "segmentation": [[6, 4, 20, 4, 20, 15]]},
    ]
    content = {"categories": [{"id": 1, "name": "thing"}], "images": [image], "annotations": annotations}
    picture = _picture("a.png", "RGB", format="PNG").files["a.png"]
    yield Seed("set", {"set.json": json.dumps(content).encode(), "a.png": picture})


KINDS: dict[str, Callable[[], Iterator[Seed]]] = {
    "png": _pngs,
    "jpeg": _jpegs,
    "tiff": _tiffs,
    "dicom": partial(_dicoms, several_frames=False),
    "dicom-series": _series,
    "dicom-frames": partial(_dicoms, several_frames=True),
    "nifti-2d": _slices,
    "nifti-3d": _volumes,
    "nrrd": _nrrds,
    "metaimage": _metaimages,
    "mp4": _movies("mp4", "mov"),
    "avi-mkv": _movies("avi", "mkv"),
    "gif": _gifs,
    "zip": _archives,
    "release": _releases,
    "rle": _masks,
    "edits": _edits,
    "coco": _coco,
}
