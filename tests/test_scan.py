"""Every kind of file that is read, by the values of its pixels; and every kind that is refused, by its sentence."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image, ImageOps
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import apply_voi_lut
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from pipeline.errors import InputError
from pipeline.readers.content import MAX_PIXELS
from pipeline.readers.dicom import apply_window
from pipeline.readers.intensity import row_bands, stretch, value_range
from pipeline.scan import Scan, read_scan

RAMP = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
COLOURS = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)
SECRET = "Doe^Jane"
ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def nothing_is_printed(capfd):
    """Libraries neither print nor warn (warnings are errors), and no test leaves stderr turned away."""
    yield
    assert capfd.readouterr() == ("", "")
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def grey(scan: Scan) -> list[list[int]]:
    assert (scan.pixels == scan.pixels[..., :1]).all()
    return scan.pixels[..., 0].tolist()


def scaled(values: np.ndarray) -> list[list[int]]:
    """From least to largest value -> 0..255, worked out apart from the product."""
    values = values.astype(np.float64)
    return np.rint((values - values.min()) / (values.max() - values.min()) * 255).astype(int).tolist()


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("a.png", {}, id="png"),
        pytest.param("a.tif", {}, id="tiff"),
        pytest.param("a.tif", {"compression": "tiff_lzw"}, id="tiff-lzw"),
        pytest.param("a.tif", {"compression": "tiff_deflate"}, id="tiff-deflate"),
        pytest.param("a.tif", {"big_tiff": True}, id="bigtiff"),
    ],
)
def test_colours_are_taken_as_they_are(tmp_path, name, options):
    Image.fromarray(COLOURS).save(tmp_path / name, **options)
    scan = read_scan(tmp_path / name)
    assert np.array_equal(scan.pixels, COLOURS) and scan.pixels.dtype == np.uint8
    assert (scan.spacing_mm, scan.affine, scan.path) == (None, None, tmp_path / name)


def test_jpeg_is_what_pillow_decodes(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "a.jpg", dpi=(300, 300))
    assert np.array_equal(read_scan(str(tmp_path / "a.jpg")).pixels, np.asarray(Image.open(tmp_path / "a.jpg")))


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.nii.gz", "a.dcm"])
def test_the_content_counts_not_the_name(tmp_path, name):
    Image.fromarray(COLOURS).save(tmp_path / name, "PNG")
    assert np.array_equal(read_scan(tmp_path / name).pixels, COLOURS)


DEEP = [[0, 1000, 65535], [300, 40000, 2]]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        pytest.param("a.png", np.array(DEEP, np.uint16), id="png-16-bit"),
        pytest.param("a.png", np.array(DEEP, np.uint16) // 16 + 1000, id="png-12-bit-with-offset"),
        pytest.param("a.tif", np.array(DEEP, np.uint16), id="tiff-16-bit"),
        pytest.param("a.tif", np.array(DEEP, np.int32) * 30000 - 9, id="tiff-32-bit"),
        pytest.param("a.tif", np.array(DEEP, np.float32) / 7 - 100, id="tiff-float"),
    ],
)
def test_deep_grey_goes_from_least_to_largest(tmp_path, name, values):
    Image.fromarray(values).save(tmp_path / name)
    assert grey(read_scan(tmp_path / name)) == scaled(values)


def write_tiff(path: Path, values: np.ndarray, *, photometric: int = 1, sample_format: int = 1) -> Path:
    """A plain grey TIFF with tags of our choice, which Pillow can't write. Byte order as in `values`."""
    order = ">" if values.dtype.byteorder == ">" else "<"
    bits = values.dtype.itemsize * 8
    tags = {256: values.shape[1], 257: values.shape[0], 258: bits, 259: 1, 262: photometric}
    tags |= {273: 8 + 2 + 12 * 10 + 4, 277: 1, 278: values.shape[0], 279: values.nbytes, 339: sample_format}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    head = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    path.write_bytes(head + entries + struct.pack(f"{order}I", 0) + values.tobytes())
    return path


@pytest.mark.parametrize(
    ("values", "tags", "white"),
    [
        pytest.param(np.array(DEEP, ">u2"), {}, False, id="big-endian"),
        pytest.param(np.array(DEEP, "<u2"), {"photometric": 0}, True, id="16-bit-min-is-white"),
        pytest.param(np.array(DEEP, "<u4") * 60000, {}, False, id="unsigned-32-bit-beyond-2**31"),
        pytest.param(np.array(DEEP, "<i4") - 30000, {"sample_format": 2}, False, id="signed-32-bit"),
        pytest.param((np.array(DEEP) - 30000).clip(-30000, 30000).astype("<i2"), {"sample_format": 2}, False, id="i2"),
        pytest.param(np.array(DEEP, ">f4"), {"sample_format": 3}, False, id="big-endian-float"),
    ],
)
def test_kinds_of_tiff(tmp_path, values, tags, white):
    expected = np.array(scaled(values))
    expected = 255 - expected if white else expected
    assert grey(read_scan(write_tiff(tmp_path / "a.tif", values, **tags))) == expected.tolist()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_constant_deep_image_is_black(tmp_path, dtype):
    Image.fromarray(np.full((2, 3), 7, dtype)).save(tmp_path / "a.tif")
    assert not read_scan(tmp_path / "a.tif").pixels.any()


def test_one_bit(tmp_path):
    Image.fromarray(np.array([[True, False, True]])).save(tmp_path / "a.png")
    assert grey(read_scan(tmp_path / "a.png")) == [[255, 0, 255]]


def test_grey_palette_and_cmyk(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "grey.png")
    assert grey(read_scan(tmp_path / "grey.png")) == RAMP.tolist()

    palette = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    palette.save(tmp_path / "palette.png")
    assert read_scan(tmp_path / "palette.png").pixels.tolist() == [
        [[10, 20, 30], [40, 50, 60]],
        [[70, 80, 90], [40, 50, 60]],
    ]

    cmyk = Image.new("CMYK", (2, 1), (0, 255, 255, 0))
    cmyk.putpixel((1, 0), (255, 0, 0, 128))
    cmyk.save(tmp_path / "cmyk.tif")
    assert read_scan(tmp_path / "cmyk.tif").pixels.tolist() == [[[255, 0, 0], [0, 127, 127]]]


def test_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=100)
    assert np.abs(read_scan(tmp_path / "cmyk.jpg").pixels.astype(int) - (255, 0, 0)).max() <= 2


def test_transparent_pixels_lie_on_black(tmp_path):
    rgba = np.array([[[200, 100, 50, 255], [200, 100, 50, 128], [200, 100, 50, 0]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    assert read_scan(tmp_path / "rgba.png").pixels.tolist() == [[[200, 100, 50], [100, 50, 25], [0, 0, 0]]]

    Image.fromarray(np.array([[[200, 255], [200, 128], [200, 0]]], np.uint8)).save(tmp_path / "la.png")
    assert grey(read_scan(tmp_path / "la.png")) == [[200, 100, 0]]

    # a colour, or an entry of the palette, that is declared transparent
    Image.fromarray(np.array([[9, 8, 7]], np.uint8)).save(tmp_path / "key.png", transparency=8)
    assert grey(read_scan(tmp_path / "key.png")) == [[9, 0, 7]]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "palette.png", transparency=bytes([255, 0]))
    assert read_scan(tmp_path / "palette.png").pixels.tolist() == [[[10, 20, 30], [0, 0, 0]]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "deflate.tif", "deep.png"])
def test_exif_orientation(tmp_path, name, orientation):
    pixels = np.kron(COLOURS[..., 0], np.ones((8, 8), np.uint8))  # JPEG keeps such blocks nearly as they are
    pixels = pixels.astype(np.uint16) * 200 if name == "deep.png" else pixels
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"compression": "tiff_deflate"} if name.startswith("deflate") else {}
    Image.fromarray(pixels).save(tmp_path / name, exif=exif, **options)
    with Image.open(tmp_path / name) as image:
        turned = np.asarray(ImageOps.exif_transpose(image))
    expected = scaled(turned) if name == "deep.png" else turned.tolist()
    assert grey(read_scan(tmp_path / name)) == expected


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_a_strange_orientation_counts_as_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RAMP).save(tmp_path / "a.png", exif=exif)
    assert grey(read_scan(tmp_path / "a.png")) == RAMP.tolist()


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
def test_1x1(tmp_path, name):
    Image.new("RGB", (1, 1), (50, 50, 50)).save(tmp_path / name)
    assert read_scan(tmp_path / name).pixels.tolist() == [[[50, 50, 50]]]


def test_camera_jpeg_with_a_preview_gives_the_main_image(tmp_path):
    first, second = Image.new("RGB", (8, 8), "white"), Image.new("RGB", (4, 4), "black")
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    assert read_scan(tmp_path / "a.jpg").pixels.shape == (8, 8, 3)
    assert (read_scan(tmp_path / "a.jpg").pixels == 255).all()


HUGE = """
import pathlib, re, sys
from pipeline.scan import read_scan
from pipeline.geometry import Resize
scan = read_scan(sys.argv[1])
assert scan.pixels.shape == (9000, 12000, 3), scan.pixels.shape
for size in (640, 512):
    canvas = Resize.plan(12000, 9000, size, "squash").image(scan.pixels)
assert (canvas == 77).all()
# of this program alone: getrusage would count what its parent held when it was started
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.parametrize("kind", ["rgb.png", "turned.jpg", "float.tif"])
def test_12000x9000_leaves_room_for_the_models(tmp_path, kind):
    """1.5 GB is for the whole chain: reading and resizing must stay well below."""
    path = tmp_path / kind
    if kind == "rgb.png":
        Image.new("RGB", (12000, 9000), (77, 77, 77)).save(path, compress_level=1)
    elif kind == "turned.jpg":
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (9000, 12000), (77, 77, 77)).save(path, exif=exif)
    else:
        image = Image.new("F", (12000, 9000), 77.0)
        image.putpixel((0, 0), 0.0)
        image.putpixel((1, 0), 255.0)
        image.save(path, compression="tiff_lzw")
    run = subprocess.run([sys.executable, "-c", HUGE, path], capture_output=True, text=True, check=True, cwd=ROOT)
    assert int(run.stdout) < 1000


# --- DICOM ------------------------------------------------------------------------------------------------------------


def write_dicom(path: Path, pixels: np.ndarray, photometric: str = "MONOCHROME2", *, bits: int = 0, **elements) -> Path:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    dataset.PatientName = SECRET
    dataset.set_pixel_data(pixels, photometric, bits or pixels.dtype.itemsize * 8)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def item(**elements) -> Dataset:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


STORED = np.array([[0, 100, 200, 300]], np.uint16)


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        pytest.param({}, [0, 85, 170, 255], id="no-window-least-to-largest"),
        pytest.param({"WindowCenter": 150, "WindowWidth": 101}, [0, 1, 255, 255], id="linear"),
        pytest.param({"WindowCenter": 200.5, "WindowWidth": 401}, [0, 64, 128, 191], id="linear-half-a-value-off"),
        pytest.param({"WindowCenter": [200.5, 9], "WindowWidth": [401, 2]}, [0, 64, 128, 191], id="first-of-several"),
        pytest.param(
            {"WindowCenter": 200, "WindowWidth": 400, "VOILUTFunction": "LINEAR_EXACT"},
            [0, 64, 128, 191],
            id="linear-exact",
        ),
        pytest.param(
            {"WindowCenter": 100, "WindowWidth": 200, "VOILUTFunction": "SIGMOID"}, [30, 128, 225, 250], id="sigmoid"
        ),
        pytest.param(
            {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": 100.5, "WindowWidth": 401},
            [0, 128, 255, 255],
            id="rescale-before-window",
        ),
        pytest.param({"RescaleSlope": -1, "RescaleIntercept": 0}, [255, 170, 85, 0], id="falling-rescale"),
        pytest.param({"PhotometricInterpretation": "MONOCHROME1"}, [255, 170, 85, 0], id="monochrome1"),
        pytest.param(
            {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 200.5, "WindowWidth": 401},
            [255, 191, 127, 64],
            id="monochrome1-with-window",
        ),
        pytest.param({"WindowCenter": 200, "WindowWidth": 0}, [0, 85, 170, 255], id="window-without-width"),
        pytest.param({"WindowCenter": 200}, [0, 85, 170, 255], id="half-a-window"),
        pytest.param({"WindowCenter": 150, "WindowWidth": 1}, [0, 0, 255, 255], id="width-of-one-is-a-threshold"),
        pytest.param({"PixelPaddingValue": 0}, [0, 0, 128, 255], id="padding-does-not-count"),
        pytest.param({"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 300}, [0, 85, 170, 255], id="only-padding"),
        pytest.param(
            {"VOILUTSequence": [item(LUTDescriptor=[3, 100, 8], LUTData=b"\x0a\x14\x1e\x00")]},
            [10, 10, 30, 30],
            id="voi-lut",
        ),
        pytest.param(
            {
                "VOILUTSequence": [item(LUTDescriptor=[301, 0, 8], LUTData=bytes(n * 255 // 300 for n in range(301)))],
                "WindowCenter": 1,
                "WindowWidth": 1,
            },
            [0, 85, 170, 255],
            id="voi-lut-of-more-than-256-bytes-comes-before-the-window",
        ),
    ],
)
def test_dicom_grey(tmp_path, elements, expected):
    # data of a look-up table may be bytes or words
    for table in elements.get("VOILUTSequence", ()):
        table["LUTData"].VR = "OW"
        if len(table.LUTData) % 2:
            table.LUTData += b"\0"
    assert grey(read_scan(write_dicom(tmp_path / "a.dcm", STORED, **elements))) == [expected]


def test_dicom_voi_lut_of_words(tmp_path):
    table = item(LUTDescriptor=[2, 200, 12], LUTData=[0, 4095])
    table["LUTData"].VR = "US"
    assert grey(read_scan(write_dicom(tmp_path / "a.dcm", STORED, VOILUTSequence=[table]))) == [[0, 0, 0, 255]]


def test_dicom_modality_lut(tmp_path):
    table = item(LUTDescriptor=[2, 100, 16], LUTData=[500, 1500], ModalityLUTType="US")
    table["LUTData"].VR = "US"
    path = write_dicom(tmp_path / "a.dcm", STORED, ModalityLUTSequence=[table], WindowCenter=1000.5, WindowWidth=2001)
    assert grey(read_scan(path)) == [[64, 64, 191, 191]]


def test_dicom_window_of_the_real_files_equals_pydicom():
    for name in ("MR_small.dcm", "693_J2KI.dcm", "examples_overlay.dcm"):
        dataset = pydicom.dcmread(get_testdata_file(name, download=False))
        shown = apply_voi_lut(pydicom.pixels.apply_modality_lut(dataset.pixel_array, dataset), dataset)
        full = pydicom.pixels.apply_windowing(np.array([-1e9, 1e9]), dataset)
        expected = (shown - full[0]) / (full[1] - full[0]) * 255
        assert np.abs(read_scan(dataset.filename).pixels[..., 0] - expected).max() <= 0.5 + 1e-6


def test_window_is_the_same_for_all_values_of_16_bits():
    values = np.arange(-32768, 32768)
    dataset = item(WindowCenter=40, WindowWidth=400, PhotometricInterpretation="MONOCHROME2", BitsStored=16)
    dataset.PixelRepresentation = 1
    for function in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        dataset.VOILUTFunction = function
        with np.errstate(over="ignore"):  # pydicom's sigmoid, far from the window
            reference = (pydicom.pixels.apply_windowing(values, dataset) + 32768) / 65535 * 255
        assert np.abs(apply_window(values, 40, 400, function) - reference).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(
    ("pixels", "photometric", "expected"),
    [
        pytest.param(np.array([[-1000, 0, 1000]], np.int16), "MONOCHROME2", [[0, 128, 255]], id="signed"),
        pytest.param(np.full((2, 2), 9, np.uint16), "MONOCHROME2", [[0, 0], [0, 0]], id="constant"),
        pytest.param(np.array([[7]], np.uint8), "MONOCHROME1", [[255]], id="1x1"),
    ],
)
def test_dicom_kinds_of_grey(tmp_path, pixels, photometric, expected):
    assert grey(read_scan(write_dicom(tmp_path / "a.dcm", pixels, photometric))) == expected


def test_dicom_of_32_bits(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", np.zeros((1, 3), np.uint16))
    dataset = pydicom.dcmread(path)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 32, 32, 31
    dataset.PixelData = np.array([0, 2**31, 2**32 - 1], "<u4").tobytes()
    dataset.save_as(path)
    assert grey(read_scan(path)) == [[0, 128, 255]]
    # and as floats, with what a float can hold
    del dataset.PixelData
    dataset.FloatPixelData = np.array([-1, 0.5, 1], "<f4").tobytes()
    dataset.save_as(path)
    assert grey(read_scan(path)) == [[0, 191, 255]]
    dataset.FloatPixelData = np.array([-1, np.nan, 1], "<f4").tobytes()
    dataset.save_as(path)
    refuses(path, "NaN or infinite")


def test_dicom_bits_beyond_those_stored_do_not_count(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", STORED, bits=12)
    dataset = pydicom.dcmread(path)
    dataset.PixelData = (STORED | 0xF000).tobytes()  # an overlay in the upper bits, as old archives have
    dataset.save_as(path)
    assert grey(read_scan(path)) == [[0, 85, 170, 255]]


def test_dicom_colours(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", COLOURS, "RGB")
    assert np.array_equal(read_scan(path).pixels, COLOURS)
    ybr = write_dicom(tmp_path / "b.dcm", np.array([[[76, 85, 255], [255, 128, 128]]], np.uint8), "YBR_FULL")
    assert np.abs(read_scan(ybr).pixels.astype(int) - [[255, 0, 0], [255, 255, 255]]).max() <= 1
    deep = write_dicom(tmp_path / "c.dcm", np.array([[[0, 2048, 4095]]], np.uint16), "RGB", bits=12)
    assert read_scan(deep).pixels.tolist() == [[[0, 128, 255]]]


@pytest.mark.parametrize("bits", [8, 16])
def test_dicom_palette(tmp_path, bits):
    tables = {"Red": [1, 2, 3], "Green": [10, 20, 30], "Blue": [100, 150, 200]}
    elements = {}
    for colour, entries in tables.items():
        data = np.array([entry << (bits - 8) for entry in entries], f"<u{bits // 8}").tobytes()
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [3, 0, bits]
        elements[f"{colour}PaletteColorLookupTableData"] = data
    if bits == 8:  # DICOM pads to an even length, entries of 8 bits then number an even count
        elements = {
            keyword: value + b"\0" if isinstance(value, bytes) else [4, 0, 8] for keyword, value in elements.items()
        }
    path = write_dicom(tmp_path / "a.dcm", np.array([[0, 2, 1]], np.uint8), "PALETTE COLOR", **elements)
    assert read_scan(path).pixels.tolist() == [[[1, 10, 100], [3, 30, 200], [2, 20, 150]]]


@pytest.mark.parametrize(
    ("elements", "spacing"),
    [
        pytest.param({"PixelSpacing": [0.5, 0.25]}, (0.5, 0.25), id="pixel-spacing-row-column"),
        pytest.param({"ImagerPixelSpacing": [0.2, 0.1]}, (0.2, 0.1), id="imager-pixel-spacing"),
        pytest.param({"PixelSpacing": [0.5, 0.25], "ImagerPixelSpacing": [2, 1]}, (0.5, 0.25), id="both"),
        pytest.param({"PixelSpacing": [0, 0]}, None, id="zero"),
        pytest.param({"PixelSpacing": []}, None, id="empty"),
        pytest.param({}, None, id="none"),
    ],
)
def test_dicom_spacing(tmp_path, elements, spacing):
    assert read_scan(write_dicom(tmp_path / "a.dcm", STORED, **elements)).spacing_mm == spacing


def test_enhanced_dicom_of_one_frame(tmp_path):
    group = item(
        PixelMeasuresSequence=[item(PixelSpacing=[3, 2])],
        PixelValueTransformationSequence=[item(RescaleSlope=2, RescaleIntercept=-100)],
    )
    frame = item(FrameVOILUTSequence=[item(WindowCenter=100.5, WindowWidth=401)])
    path = write_dicom(
        tmp_path / "a.dcm",
        STORED,
        NumberOfFrames=1,
        SharedFunctionalGroupsSequence=[group],
        PerFrameFunctionalGroupsSequence=[frame],
    )
    scan = read_scan(path)
    assert grey(scan) == [[0, 128, 255, 255]] and scan.spacing_mm == (3, 2)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        pytest.param("MR_small_RLE.dcm", "MR_small.dcm", id="rle"),
        pytest.param("MR_small_jp2klossless.dcm", "MR_small.dcm", id="jpeg2000"),
        pytest.param("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm", id="jpeg-ls"),
        pytest.param("MR_small_implicit.dcm", "MR_small.dcm", id="implicit"),
        pytest.param("MR_small_bigendian.dcm", "MR_small.dcm", id="big-endian"),
        pytest.param("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle.dcm", id="jpeg-lossless"),
        pytest.param("SC_rgb_rle_16bit.dcm", "SC_rgb_rle.dcm", id="rle-16-bit-colour"),
        pytest.param("SC_rgb_rle_32bit.dcm", "SC_rgb_rle.dcm", id="rle-32-bit-colour"),
    ],
)
def test_compressed_dicom_equals_uncompressed(name, reference):
    pixels = read_scan(get_testdata_file(name, download=False)).pixels
    expected = read_scan(get_testdata_file(reference, download=False)).pixels
    assert np.array_equal(pixels, expected)


@pytest.mark.parametrize(
    "name",
    ["SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_dcmtk_+eb+cr.dcm", "GDCMJ2K_TextGBR.dcm", "SC_ybr_full_422_uncompressed.dcm"],
)
def test_compressed_colours_equal_pydicom(name):
    path = get_testdata_file(name, download=False)
    assert np.array_equal(read_scan(path).pixels, pydicom.pixels.pixel_array(path))


def test_jpeg_of_12_bits_goes_from_least_to_largest():
    path = get_testdata_file("JPGExtended.dcm", download=False)
    assert grey(read_scan(path)) == scaled(pydicom.pixels.pixel_array(path))


def test_dicom_by_its_content(tmp_path):
    whole = write_dicom(tmp_path / "a.dcm", STORED)
    nameless = tmp_path / "IM0001"
    nameless.write_bytes(whole.read_bytes())
    assert np.array_equal(read_scan(nameless).pixels, read_scan(whole).pixels)
    # as archives of the eighties wrote it: neither preamble nor meta data
    dataset = pydicom.dcmread(whole)
    bare = item(**{element.keyword: element.value for element in dataset})
    bare["PixelData"].VR = "OW"
    bare.save_as(nameless, implicit_vr=True, little_endian=True)
    assert nameless.read_bytes()[:2] == b"\x08\0"
    assert np.array_equal(read_scan(nameless).pixels, read_scan(whole).pixels)


# --- NIfTI ------------------------------------------------------------------------------------------------------------


def write_nifti(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


CT = np.array([[-1000, -500, 0], [0, 500, 1000]], np.int16)  # (x, y)
#: What a radiologist sees of it where x points right and y to the front: the right side left, the front on top.
CT_SHOWN = [[255, 128], [191, 64], [128, 0]]


@pytest.mark.parametrize(
    ("values", "directions"),
    [
        pytest.param(CT, (1, 1), id="right-front"),
        pytest.param(CT[::-1], (-1, 1), id="left-front"),
        pytest.param(CT[:, ::-1], (1, -1), id="right-back"),
        pytest.param(CT[..., None], (1, 1), id="3-D-of-one-slice"),
        pytest.param(CT[..., None, None], (1, 1), id="4-D-of-one-slice"),
    ],
)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_nifti_axial(tmp_path, name, values, directions):
    affine = np.diag([2.0 * directions[0], 3.0 * directions[1], 4, 1])
    affine[:3, 3] = 5, 6, 7
    scan = read_scan(write_nifti(tmp_path / name, values, affine))
    assert grey(scan) == CT_SHOWN
    assert scan.spacing_mm == (3, 2)
    assert np.array_equal(scan.affine, affine)


def test_nifti_with_turned_axes(tmp_path):
    """The first voxel axis runs to the back, the second to the right."""
    affine = np.array([[0, 2, 0, 0], [-3, 0, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1]], float)
    scan = read_scan(write_nifti(tmp_path / "a.nii", CT[:, ::-1].T, affine))
    assert grey(scan) == CT_SHOWN and scan.spacing_mm == (3, 2)


@pytest.mark.parametrize(
    ("axis", "spacing"),
    [
        pytest.param(0, (4, 3), id="sagittal"),
        pytest.param(1, (4, 2), id="coronal"),
        pytest.param(2, (3, 2), id="axial"),
    ],
)
def test_nifti_planes(tmp_path, axis, spacing):
    """The head is on top of sagittal and coronal slices; the front at the left of a sagittal one."""
    scan = read_scan(write_nifti(tmp_path / "a.nii", np.expand_dims(CT, axis), np.diag([2, 3, 4, 1])))
    assert grey(scan) == CT_SHOWN and scan.spacing_mm == spacing


def test_nifti_without_orientation_runs_to_the_left_and_front(tmp_path):
    image = nibabel.Nifti1Image(CT[::-1], None)
    image.header.set_zooms((2, 3))
    nibabel.save(image, tmp_path / "a.nii")
    scan = read_scan(tmp_path / "a.nii")
    assert grey(scan) == CT_SHOWN and scan.spacing_mm == (3, 2)


def test_nifti_that_can_not_be_laid_out_counts_as_not_oriented(tmp_path):
    image = nibabel.Nifti1Image(CT[::-1], None)
    image.header["sform_code"] = 1  # and the matrix left at zero
    nibabel.save(image, tmp_path / "a.nii")
    assert grey(read_scan(tmp_path / "a.nii")) == CT_SHOWN


@pytest.mark.parametrize(
    ("unit", "spacing"),
    [("mm", (3, 2)), ("micron", (0.003, 0.002)), ("meter", (3000, 2000)), ("unknown", (3, 2))],
)
def test_nifti_units(tmp_path, unit, spacing):
    image = nibabel.Nifti1Image(CT, np.diag([2, 3, 4, 1]))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "a.nii")
    assert read_scan(tmp_path / "a.nii").spacing_mm == pytest.approx(spacing)


def test_nifti_window_of_what_is_above_zero(tmp_path):
    """One voxel of a thousand that is far too bright must not turn the rest black."""
    values = np.zeros((1100, 2), np.float32)
    values[:1000, 0] = np.linspace(100, 200, 1000)
    values[500, 0] = 1e6
    darkest, brightest = np.percentile(values[values > 0], (0.5, 99.5))
    shown = np.rint(((values - darkest) / (brightest - darkest)).clip(0, 1) * 255)
    scan = read_scan(write_nifti(tmp_path / "a.nii", values))
    assert grey(scan) == shown[::-1, ::-1].T.tolist()
    assert brightest < 200


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        pytest.param(np.zeros((2, 2), np.uint8), 0, id="zeros"),
        pytest.param(np.full((2, 2), 5, np.float32), 0, id="constant"),
        pytest.param(np.full((1, 1), 5, np.int16), 0, id="1x1"),
    ],
)
def test_nifti_constant(tmp_path, values, shown):
    assert (read_scan(write_nifti(tmp_path / "a.nii", values)).pixels == shown).all()


def test_nifti_mask_of_zeros_and_ones(tmp_path):
    scan = read_scan(write_nifti(tmp_path / "a.nii", np.array([[0, 1], [1, 1]], np.uint8)))
    assert grey(scan) == [[255, 255], [255, 0]]


def test_nifti_slope_and_intercept(tmp_path):
    image = nibabel.Nifti1Image(100 - CT // 5, np.eye(4))
    image.header.set_slope_inter(-5, 500)  # nibabel writes the values as they are, and these beside them
    nibabel.save(image, tmp_path / "a.nii")
    assert np.array_equal(nibabel.load(tmp_path / "a.nii").get_fdata(), CT)
    assert grey(read_scan(tmp_path / "a.nii")) == CT_SHOWN


def test_nifti_big_endian_version_2_and_colours(tmp_path):
    swapped = nibabel.Nifti1Image(CT, np.eye(4), nibabel.Nifti1Header(endianness=">"))
    nibabel.save(swapped, tmp_path / "a.nii")
    assert grey(read_scan(tmp_path / "a.nii")) == CT_SHOWN
    nibabel.save(nibabel.Nifti2Image(CT, np.eye(4)), tmp_path / "b.nii")
    assert grey(read_scan(tmp_path / "b.nii")) == CT_SHOWN
    colours = np.zeros((1, 1, 1), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colours[:] = (1, 2, 3)
    assert read_scan(write_nifti(tmp_path / "c.nii", colours)).pixels.tolist() == [[[1, 2, 3]]]


# --- what is refused --------------------------------------------------------------------------------------------------


def png(width: int, height: int) -> bytes:
    """A PNG that says its size and holds no pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        pytest.param("a.png", b"", "empty file", id="empty"),
        pytest.param("a.png", b"patient list\n", "holds text", id="text"),
        pytest.param("a.png", "Größe\n".encode() * 800, "holds text", id="text-beyond-ascii"),
        pytest.param("a.dcm", b"patient list\n" * 20, "holds text", id="text-called-dicom"),
        pytest.param("a.nii", b"patient list\n" * 40, "holds text", id="text-called-nifti"),
        pytest.param("a.png", b'<?xml version="1.0"?><svg/>', "holds an SVG drawing", id="svg"),
        pytest.param("a.jpg", b"<!doctype html>", "holds an XML or HTML document", id="html"),
        pytest.param("a.tif", b"%PDF-1.7\n", "holds a PDF document", id="pdf"),
        pytest.param("a.png", b"GIF89a\1\0", "holds a GIF image", id="gif"),
        pytest.param("a.png", bytes(500), "holds unknown data", id="zeros"),
        pytest.param("a.png", b"\x89PNG\r\n\x1a\n", "damaged", id="png-signature-alone"),
        pytest.param("a.png", png(4, 4), "damaged", id="png-without-pixels"),
        pytest.param("a.png", png(0, 4), "damaged", id="png-of-no-width"),
        pytest.param("a.png", png(15000, 10001), "15000x10001 pixels; expected at most 150 million", id="too-large"),
        pytest.param("a.png", png(65000, 65000), "more than 300 million pixels", id="bomb"),
        pytest.param("a.jpg", b"\xff\xd8\xff\xe0", "damaged", id="jpeg-signature-alone"),
        pytest.param("a.tif", b"II*\0", "damaged", id="tiff-signature-alone"),
        pytest.param("a.nii.gz", b"\x1f\x8b\x08\0corrupt gzip data", "damaged", id="corrupt-gzip"),
        pytest.param("a.nii.gz", gzip.compress(b"text"), "a gzip file that holds no NIfTI", id="gzip-of-text"),
        pytest.param("a.hdr", bytes([92, 1]) + bytes(342) + b"ni1\0", "header of a NIfTI pair", id="nifti-pair"),
        pytest.param("a.dcm", bytes(128) + b"DICM", "without pixels", id="dicom-preamble-alone"),
    ],
)
def test_refused_content(tmp_path, name, content, problem):
    (tmp_path / name).write_bytes(content)
    refuses(tmp_path / name, problem)


def refuses(path: Path, problem: str) -> None:
    """One sentence, one line, that names the file, what was wrong and what is accepted; nothing of a patient."""
    with pytest.raises(InputError) as caught:
        read_scan(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "; expected " in text and problem in text
    assert "\n" not in text and SECRET not in text


def test_limit_is_150_million_pixels():
    assert MAX_PIXELS == 150_000_000
    assert Image.MAX_IMAGE_PIXELS == MAX_PIXELS


def test_refused_paths(tmp_path):
    refuses(tmp_path / "missing.png", "no such file")
    refuses(tmp_path / "missing" / "a.png", "no such file")
    refuses(tmp_path, "a folder")
    refuses(tmp_path / ("a" * 300), "can't be opened")
    os.mkfifo(tmp_path / "pipe")
    refuses(tmp_path / "pipe", "not a regular file")
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    refuses(tmp_path / "link.png", "no such file")


def test_refused_without_permission(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(COLOURS).save(path)
    path.chmod(0)
    user = os.geteuid()
    if user == 0:  # root may read everything
        os.seteuid(65534)
    try:
        refuses(path, "no permission")
    finally:
        os.seteuid(user)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("a.png", {}, id="png"),
        pytest.param("a.jpg", {}, id="jpeg"),
        pytest.param("a.jpg", {"progressive": True}, id="progressive-jpeg"),
        pytest.param("a.tif", {}, id="tiff"),
        pytest.param("a.tif", {"compression": "tiff_lzw"}, id="tiff-lzw"),
        pytest.param("a.tif", {"compression": "tiff_deflate"}, id="tiff-deflate"),
        pytest.param("a.tif", {"compression": "jpeg"}, id="tiff-jpeg"),
    ],
)
def test_truncated_pictures(tmp_path, name, options):
    path = tmp_path / name
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)).save(path, **options)
    whole = path.read_bytes()
    for share in np.linspace(0.01, 0.99, 30):
        path.write_bytes(whole[: int(len(whole) * share)])
        refuses(path, "damaged, cut short" if int(len(whole) * share) >= 8 else "")


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_several_pages(tmp_path, name):
    pages = [Image.fromarray(COLOURS), Image.fromarray(COLOURS[::-1].copy())]
    pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    refuses(tmp_path / name, "2 pages or frames")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers(tmp_path, value):
    values = np.ones((3, 4), np.float32)
    values[1, 2] = value
    Image.fromarray(values).save(tmp_path / "a.tif")
    refuses(tmp_path / "a.tif", "NaN or infinite")
    refuses(write_nifti(tmp_path / "a.nii.gz", values), "NaN or infinite")


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        pytest.param((4, 5, 6), "3-D volume (4, 5, 6)", id="volume"),
        pytest.param((4, 5, 1, 3), "4-D image (4, 5, 1, 3)", id="4-D"),
        pytest.param((4, 5, 6, 7), "4-D image (4, 5, 6, 7)", id="4-D-volume"),
        pytest.param((4,), "1-D image (4,)", id="1-D"),
        pytest.param((0, 4), "image (0, 4) without voxels", id="zero-size"),
        pytest.param((30000, 20000), "an image of", id="too-large"),
    ],
)
def test_refused_nifti_shapes(tmp_path, shape, problem):
    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.uint8)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    data = bytes(np.prod(shape)) if np.prod(shape) < 10_000 else b""  # refused before the voxels are read
    (tmp_path / "a.nii").write_bytes(header.binaryblock + bytes(4) + data)
    refuses(tmp_path / "a.nii", problem)


def test_refused_nifti(tmp_path):
    refuses(write_nifti(tmp_path / "a.nii", np.ones((2, 2), np.complex64)), "complex numbers")
    path = write_nifti(tmp_path / "b.nii", CT)
    path.write_bytes(path.read_bytes()[:-1])
    refuses(path, "damaged, cut short")
    zipped = write_nifti(tmp_path / "c.nii.gz", np.random.default_rng(0).random((40, 50)))
    whole = zipped.read_bytes()
    zipped.write_bytes(whole[: len(whole) // 2])
    refuses(zipped, "damaged, cut short")
    middle = len(whole) // 2
    zipped.write_bytes(whole[:middle] + bytes(50) + whole[middle + 50 :])
    refuses(zipped, "damaged, cut short")


def test_refused_dicom(tmp_path):
    path = tmp_path / "a.dcm"
    refuses(write_dicom(path, np.zeros((2, 3, 4), np.uint8)), "2 frames")
    refuses(write_dicom(path, STORED, Rows=20000, Columns=20000), "20000x20000 pixels; expected at most 150 million")
    refuses(write_dicom(path, STORED, Rows=0), "4x0 pixels")
    refuses(write_dicom(path, STORED, Columns=400), "can't be decoded")
    refuses(write_dicom(path, STORED, BitsAllocated=24), "can't be decoded")
    refuses(Path(get_testdata_file("test-SR.dcm", download=False)), "without pixels")
    refuses(Path(get_testdata_file("MR_truncated.dcm", download=False)), "can't be decoded")
    dataset = pydicom.dcmread(write_dicom(path, STORED))
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"  # MPEG-2 video
    dataset.PixelData = encapsulate([b"video"])
    dataset.save_as(path)
    refuses(path, "can't be decoded")


COMPRESSED = ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_dcmtk.dcm"]


@pytest.mark.parametrize("name", ["MR_small.dcm", "image_dfl.dcm", *COMPRESSED])
def test_truncated_dicom(tmp_path, name):
    whole = Path(get_testdata_file(name, download=False)).read_bytes()
    path = tmp_path / "a.dcm"
    for share in (0.05, 0.2, 0.5, 0.8, 0.95):
        path.write_bytes(whole[: int(len(whole) * share)])
        refuses(path, "cut short")


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_dicom_whose_stream_stops_early(tmp_path, name):
    dataset = pydicom.dcmread(get_testdata_file(name, download=False))
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    for share in (0.3, 0.9):
        dataset.PixelData = encapsulate([frame[: int(len(frame) * share)]])
        dataset.save_as(tmp_path / "a.dcm")
        refuses(tmp_path / "a.dcm", "can't be decoded")


def damage_samples() -> list:
    names = ["MR_small.dcm", *COMPRESSED, "SC_rgb_jpeg_gdcm.dcm", "rtdose_1frame.dcm"]
    dicoms = [pytest.param(Path(get_testdata_file(name, download=False)), id=name) for name in names]
    return [*dicoms, *(pytest.param(name, id=name) for name in ("a.png", "a.jpg", "a.tif", "lzw.tif", "a.nii"))]


@pytest.mark.parametrize("source", damage_samples())
def test_damage_anywhere_is_read_or_refused_and_never_a_crash(tmp_path, source):
    rng = np.random.default_rng(5)
    path = tmp_path / str(getattr(source, "name", source))
    if isinstance(source, Path):
        path.write_bytes(source.read_bytes())
    elif source == "a.nii":
        write_nifti(path, CT)
    else:
        Image.fromarray(COLOURS).save(path, **({"compression": "tiff_lzw"} if source == "lzw.tif" else {}))
    whole = path.read_bytes()
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole)
        for position in rng.integers(0, min(len(whole), 1500), 4):
            damaged[position] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            read_scan(path)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused


# --- the pieces -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pixels", [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3)), np.zeros((0, 2, 3), np.uint8)])
def test_scan_checks_itself(pixels):
    with pytest.raises(ValueError, match=r"Scan\.pixels: .*expected uint8 \(H, W, 3\)"):
        Scan(Path("a.png"), pixels)


def test_row_bands_cover_every_row_once():
    rows = [row for band in row_bands(1000, 30_000) for row in range(1000)[band]]
    assert rows == list(range(1000))
    assert len(list(row_bands(1000, 30_000))) > 1 and len(list(row_bands(3, 10**9))) == 3


def test_value_range_goes_over_all_bands():
    bands = [np.array([5, 7]), np.array([], int), np.array([-3])]
    assert value_range(Path("a"), bands) == (-3, 7)
    assert value_range(Path("a"), []) == (0, 0)


def test_stretch_rounds_and_clips():
    assert stretch(np.array([-5, 0, 1, 2, 9]), 0, 2).tolist() == [0, 0, 128, 255, 255]
    assert stretch(np.array([0, 1, 2]), 1, 1).tolist() == [0, 0, 255]
