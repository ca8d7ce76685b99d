"""Small files that claim, or unpack to, far more than they are: each is made here, and none is random."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from tests.fuzz.mutations import png_chunk
from tests.fuzz.seeds import Seed, nifti, seeds_of

_MEGABYTE = 1 << 20
#: A side of a square image just within the limit of pixels, and one far beyond.
_LARGE, _HUGE = 12_240, 60_000


def bombs_of(kind: str) -> tuple[Seed, ...]:
    """The bombs of one of `KINDS`."""
    return tuple(make() for make in _BOMBS.get(kind, ()))


def _zeros_deflated(length: int) -> bytes:
    packer = zlib.compressobj(9)
    pieces = [packer.compress(bytes(_MEGABYTE)) for _ in range(length // _MEGABYTE)]
    return b"".join([*pieces, packer.compress(bytes(length % _MEGABYTE)), packer.flush()])


def _zeros_gzipped(megabytes: int) -> bytes:
    """Members one after the other, which unpack to one stream: quick to make."""
    return gzip.compress(bytes(16 * _MEGABYTE), mtime=0) * (megabytes // 16)


def _png(side: int, bits: int, colour: int, channels: int, *more: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, 0)
    row = 1 + side * channels * bits // 8
    length = row * side if side <= _LARGE else 4 * _MEGABYTE
    chunks = [(b"IHDR", header), *more, (b"IDAT", _zeros_deflated(length)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def _huge_png() -> Seed:
    return Seed.of("huge.png", _png(_HUGE, 8, 2, 3))


def _large_png() -> Seed:
    return Seed.of("large.png", _png(_LARGE, 8, 6, 4))


def _deep_png() -> Seed:
    return Seed.of("deep.png", _png(_LARGE, 16, 0, 1))


def _wordy_png() -> Seed:
    text = b"Comment\0\0" + _zeros_deflated(512 * _MEGABYTE)
    return Seed.of("wordy.png", _png(16, 8, 0, 1, *[(b"zTXt", text)] * 4))


def _profiled_png() -> Seed:
    return Seed.of("profiled.png", _png(16, 8, 0, 1, (b"iCCP", b"p\0\0" + _zeros_deflated(1024 * _MEGABYTE))))


def _tiff(entries: dict[int, tuple[int, int, int]], rest: bytes = b"", start: int = 8) -> bytes:
    """A directory of tag -> (type, count, value)."""
    directory = struct.pack("<H", len(entries))
    for tag, (kind, count, value) in sorted(entries.items()):
        directory += struct.pack("<HHII", tag, kind, count, value)
    return struct.pack("<2sHI", b"II", 42, start) + directory + struct.pack("<I", 0) + rest


def _huge_tiff() -> Seed:
    about = {256: (4, 1, 1 << 31), 257: (4, 1, 1 << 30), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1),
             273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, 1 << 30), 279: (4, 1, 1 << 31)}  # fmt: skip
    return Seed.of("huge.tif", _tiff(about, bytes(64)))


def _large_tiff() -> Seed:
    """Within the limit, one strip of which next to nothing is there."""
    about = {256: (4, 1, _LARGE), 257: (4, 1, _LARGE), 258: (3, 1, 8), 259: (3, 1, 8), 262: (3, 1, 1),
             277: (3, 1, 1), 278: (4, 1, _LARGE), 273: (4, 1, 8 + 2 + 9 * 12 + 4)}  # fmt: skip
    strip = _zeros_deflated(_LARGE * _LARGE)
    return Seed.of("large.tif", _tiff(about | {279: (4, 1, len(strip))}, strip))


def _tiff_of_pages() -> Seed:
    """Directories without an entry, six bytes each, one after the other."""
    pages = b"".join(struct.pack("<HI", 0, 8 + 6 * (number + 1)) for number in range(300_000))
    return Seed.of("pages.tif", struct.pack("<2sHI", b"II", 42, 8) + pages)


def _endless_tiff() -> Seed:
    return Seed.of("endless.tif", struct.pack("<2sHIHI", b"II", 42, 8, 0, 8))


def _tiff_of_tags() -> Seed:
    about = {256: (4, 1, 8), 257: (4, 1, 8), 33432: (2, (1 << 31) - 1, 8), 34377: (7, (1 << 32) - 1, 0)}
    return Seed.of("tags.tif", _tiff(about, bytes(64)))


def _huge_jpeg() -> Seed:
    content = bytearray(seeds_of("jpeg")[0].files["grey.jpg"])
    place = content.find(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", 65_500, 65_500)
    return Seed.of("huge.jpg", bytes(content))


def _jpeg_of_scans() -> Seed:
    """A progressive picture of which each scan goes over all pixels once more."""
    buffer = io.BytesIO()
    Image.new("L", (64, 64), 99).save(buffer, format="JPEG", progressive=True)
    content = bytearray(buffer.getvalue())
    place = content.find(b"\xff\xc2") + 5
    content[place : place + 4] = struct.pack(">HH", _LARGE, _LARGE)
    last = content.rfind(b"\xff\xda")
    return Seed.of("scans.jpg", bytes(content[:last] + content[last:-2] * 2000 + b"\xff\xd9"))


def _dicom(rows: int, columns: int, pixels: bytes, syntax: str = ExplicitVRLittleEndian, **more) -> bytes:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid(entropy_srcs=["bomb"])
    about = {"Rows": rows, "Columns": columns, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "SamplesPerPixel": 1,
             "PixelRepresentation": 0, "PhotometricInterpretation": "MONOCHROME2"}  # fmt: skip
    for keyword, value in (about | more).items():
        setattr(dataset, keyword, value)
    dataset.PixelData = pixels
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = syntax not in (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _huge_dicom() -> Seed:
    return Seed.of("huge.dcm", _dicom(65_535, 65_535, bytes(64)))


def _short_dicom() -> Seed:
    """Within the limit, with next to no pixels."""
    return Seed.of("short.dcm", _dicom(_LARGE, _LARGE, bytes(64)))


def _run_length_dicom() -> Seed:
    rows = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0" * (_LARGE * _LARGE // 128 + 1)
    return Seed.of("runs.dcm", _dicom(_LARGE, _LARGE, encapsulate([rows]), RLELossless))


def _colourful_dicom() -> Seed:
    """Three channels of run lengths."""
    side = 12_000
    part = b"\x81\0" * (side * side // 128 + 1)
    rows = struct.pack("<16I", 3, 64, 64 + len(part), 64 + 2 * len(part), *[0] * 12) + part * 3
    told = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    return Seed.of("colours.dcm", _dicom(side, side, encapsulate([rows]), RLELossless, **told))


def _deflated_dicom() -> Seed:
    """A small data set and, deflated after it, gigabytes of zeros."""
    content = _dicom(16, 16, bytes(256), DeflatedExplicitVRLittleEndian)
    place = 132 + 12 + struct.unpack_from("<I", content, 140)[0]  # the file meta group is not deflated
    plain = zlib.decompress(content[place:], -15)
    packer = zlib.compressobj(9, wbits=-15)
    head = packer.compress(plain) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(bytes(_MEGABYTE)) + packer.flush(zlib.Z_FULL_FLUSH)  # may follow itself
    return Seed.of("deflated.dcm", content[:place] + head + zeros * 4096 + packer.flush())


def _codestream_dicom(syntax: str, stream: bytes) -> bytes:
    return _dicom(512, 512, encapsulate([stream]), syntax)


def _jpeg_dicom() -> Seed:
    """A picture inside that is larger than what the data set says."""
    stream = _huge_jpeg().files["huge.jpg"]
    return Seed.of("jpeg.dcm", _codestream_dicom(JPEGBaseline8Bit, stream))


def _jpeg_2000_dicom() -> Seed:
    size = struct.pack(">H8IH", 0, 60_000, 60_000, 0, 0, 60_000, 60_000, 0, 0, 1)
    siz = b"\xff\x51" + struct.pack(">H", 41) + size + b"\7\1\1"
    cod = b"\xff\x52" + struct.pack(">HBBHBBBBBB", 12, 0, 0, 1, 0, 5, 4, 4, 0, 1)
    qcd = b"\xff\x5c" + struct.pack(">HB", 19, 0x40) + bytes([0x48] * 16)
    tile = b"\xff\x90" + struct.pack(">HHIBB", 10, 0, 0, 0, 1) + b"\xff\x93" + bytes(64)
    stream = b"\xff\x4f" + siz + cod + qcd + tile + b"\xff\xd9"
    return Seed.of("jpeg2000.dcm", _codestream_dicom(JPEG2000Lossless, stream))


def _jpeg_ls_dicom() -> Seed:
    frame = b"\xff\xf7" + struct.pack(">HBHHB", 11, 8, 60_000, 60_000, 1) + b"\1\x11\0"
    scan = b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\1\0\0\0\0" + bytes(64)
    return Seed.of("jpegls.dcm", _codestream_dicom(JPEGLSLossless, b"\xff\xd8" + frame + scan + b"\xff\xd9"))


def _nested_dicom() -> Seed:
    """Sequences inside of each other, each of undefined length."""
    content = _dicom(16, 16, bytes(256))
    place = 132 + 12 + struct.unpack_from("<I", content, 140)[0]
    opened = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"
    return Seed.of("nested.dcm", content[:place] + opened * 50_000 + content[place:])


def _frames_dicom(frames: int, rows: int, columns: int) -> bytes:
    return _dicom(rows, columns, bytes(64), NumberOfFrames=frames)


def _many_frames() -> Seed:
    return Seed.of("many.dcm", _frames_dicom(2_147_483_647, 64, 64))


def _large_frames() -> Seed:
    return Seed.of("large.dcm", _frames_dicom(100, 10_000, 10_000))


def _runs_of_frames() -> Seed:
    """Within the limits: 40 frames of 4000x4000 pixels from some hundred kilobytes."""
    rows = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0" * (4000 * 4000 // 128 + 1)
    content = _dicom(4000, 4000, encapsulate([rows] * 4), RLELossless, NumberOfFrames=4)
    return Seed.of("runs.dcm", content)


def _nifti_header(shape: tuple[int, ...], dtype: type, **fields) -> bytes:
    content = bytearray(nifti(np.zeros((2, 2, 2), dtype), **fields)[:352])
    struct.pack_into("<8h", content, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    return bytes(content)


def _zipped_nifti(name: str, shape: tuple[int, ...], dtype: type, megabytes: int, **fields) -> Callable[[], Seed]:
    def make() -> Seed:
        return Seed.of(name, gzip.compress(_nifti_header(shape, dtype, **fields)) + _zeros_gzipped(megabytes))

    return make


def _extended_nifti() -> Seed:
    """An extension of two gigabytes before the voxels."""
    content = bytearray(_nifti_header((16, 16), np.uint8, vox_offset=2_000_000_000))
    content[348] = 1
    content += struct.pack("<ii", 1_999_999_984, 6)
    return Seed.of("extended.nii.gz", gzip.compress(bytes(content)) + _zeros_gzipped(2048))


def _nrrd(name: str, sizes: str, encoding: str, data: bytes, *more: str) -> Callable[[], Seed]:
    def make() -> Seed:
        lines = ["NRRD0004", "type: short", "dimension: 3", f"sizes: {sizes}", f"encoding: {encoding}",
                 "endian: little", *more, "", ""]  # fmt: skip
        return Seed.of(name, "\n".join(lines).encode() + data)

    return make


def _mha(name: str, sizes: str, data: bytes, *more: str) -> Callable[[], Seed]:
    def make() -> Seed:
        lines = ["ObjectType = Image", "NDims = 3", f"DimSize = {sizes}", "ElementType = MET_DOUBLE", *more,
                 "ElementDataFile = LOCAL", ""]  # fmt: skip
        return Seed.of(name, "\n".join(lines).encode() + data)

    return make


def _huge_mp4() -> Seed:
    """The sizes of the track and of its pictures, and a count of frames, far beyond what is there."""
    content = bytearray(seeds_of("mp4")[0].files["video.mp4"])
    place = content.find(b"avc1") + 4 + 24
    content[place : place + 4] = struct.pack(">HH", 65_535, 65_535)
    return Seed.of("huge.mp4", bytes(content))


def _long_mp4() -> Seed:
    content = bytearray(seeds_of("mp4")[0].files["video.mp4"])
    place = content.find(b"stts") + 8
    content[place : place + 12] = struct.pack(">III", 1, 2_147_483_647, 1)
    place = content.find(b"stsz") + 8
    content[place : place + 8] = struct.pack(">II", 64, 2_147_483_647)
    return Seed.of("long.mp4", bytes(content))


def _gif(width: int, height: int, frames: int) -> bytes:
    """Frames of one pixel on a large screen."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x21\xf9\x04\x04\1\0\0\0" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    return screen + frame * frames + b"\x3b"


def _huge_gif() -> Seed:
    return Seed.of("huge.gif", _gif(65_535, 65_535, 2))


def _long_gif() -> Seed:
    return Seed.of("long.gif", _gif(5_999, 5_999, 1000))


def _zip_of(name: str, entries: int, length: int) -> Seed:
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(entries):
            archive.writestr(f"{number}.dcm", bytes(length))
    return Seed.of(name, buffer.getvalue())


def _deep_json(kind: str) -> Callable[[], Seed]:
    """JSON inside of JSON, and a number of many digits."""

    def make() -> Seed:
        files = seeds_of(kind)[0].files
        name = max(name for name in files if name.endswith(".json"))  # the manifest, not the config
        return Seed("deep", {**files, name: b"[" * 100_000 + b"]" * 100_000})

    return make


def _digits(kind: str, name: str) -> Callable[[], Seed]:
    def make() -> Seed:
        return Seed("digits", {**seeds_of(kind)[0].files, name: b'{"schema": ' + b"9" * 10_000 + b"}"})

    return make


def _many_runs() -> Seed:
    return Seed.of("many.json", json.dumps({"size": [24, 31], "counts": "o" * 5_000_000}).encode())


_BOMBS: dict[str, tuple[Callable[[], Seed], ...]] = {
    "png": (_huge_png, _large_png, _deep_png, _wordy_png, _profiled_png),
    "jpeg": (_huge_jpeg, _jpeg_of_scans),
    "tiff": (_huge_tiff, _large_tiff, _tiff_of_pages, _endless_tiff, _tiff_of_tags),
    "dicom": (_huge_dicom, _short_dicom, _run_length_dicom, _colourful_dicom, _deflated_dicom, _jpeg_dicom,
              _jpeg_2000_dicom, _jpeg_ls_dicom, _nested_dicom),
    "dicom-frames": (_many_frames, _large_frames, _runs_of_frames),
    "nifti-2d": (
        _zipped_nifti("huge.nii.gz", (30_000, 30_000), np.uint8, 1024),
        _zipped_nifti("large.nii.gz", (_LARGE, _LARGE), np.float64, 1408),
        _zipped_nifti("more.nii.gz", (16, 16), np.uint8, 16_384),
        _extended_nifti,
    ),
    "nifti-3d": (
        _zipped_nifti("huge.nii.gz", (30_000, 30_000, 30_000), np.uint8, 1024),
        _zipped_nifti("more.nii.gz", (16, 16, 16), np.uint8, 16_384),
        _zipped_nifti("skip.nii.gz", (16, 16, 16), np.uint8, 4096, vox_offset=4_000_000_000),
        _zipped_nifti("short.nii.gz", (800, 800, 800), np.float64, 16),
    ),
    "nrrd": (
        _nrrd("huge.nrrd", "30000 30000 30000", "gzip", _zeros_gzipped(1024)),
        _nrrd("more.nrrd", "16 16 16", "gzip", _zeros_gzipped(16_384)),
        _nrrd("skip.nrrd", "16 16 16", "gzip", _zeros_gzipped(4096), "byte skip: 4000000000"),
        _nrrd("bz2.nrrd", "900 900 600", "bzip2", bz2.compress(bytes(64 * _MEGABYTE)) * 2),
        _nrrd("short.nrrd", "800 800 800", "raw", bytes(64)),
    ),
    "metaimage": (
        _mha("huge.mha", "30000 30000 30000", _zeros_deflated(64 * _MEGABYTE), "CompressedData = True"),
        _mha("more.mha", "16 16 16", _zeros_deflated(1024 * _MEGABYTE), "CompressedData = True"),
        _mha("short.mha", "800 800 800", bytes(64)),
    ),
    "mp4": (_huge_mp4, _long_mp4),
    "gif": (_huge_gif, _long_gif),
    "zip": (lambda: _zip_of("many.zip", 6000, 10), lambda: _zip_of("large.zip", 30, 80 * _MEGABYTE)),
    "release": (_deep_json("release"), _digits("release", "manifest.json")),
    "rle": (_deep_json("rle"), _digits("rle", "compressed.json"), _many_runs),
    "edits": (_deep_json("edits"), _digits("edits", "edits.json")),
    "coco": (_deep_json("coco"), _digits("coco", "set.json")),
}  # fmt: skip
