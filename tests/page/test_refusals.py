"""What the readers refuse, in Vietnamese: with real files that can't be read."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file

from hub import WeightsError
from page.refusals import refusal
from page.words import Words
from pipeline.edits import read_edits
from pipeline.errors import InputError
from pipeline.scan import read_scan
from pipeline.stack import read_stack

ACCEPTED = "cần một tệp PNG, JPEG, TIFF, DICOM đơn hoặc NIfTI 2 chiều"
DAMAGED = "tệp hỏng, bị cắt ngang, hoặc thuộc dạng không được hỗ trợ; cần một tệp {} nguyên vẹn"


def holding(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content)


def cut_short(path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(path, format="PNG")
    path.write_bytes(path.read_bytes()[:900])


def two_pages(path: Path) -> None:
    page = Image.new("L", (8, 8))
    page.save(path, format="TIFF", save_all=True, append_images=[page])


def nifti(shape: tuple[int, ...], value: complex = 0) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        data = np.full(shape, value, np.complex64 if isinstance(value, complex) else np.float32)
        path.write_bytes(nibabel.Nifti1Image(data, np.eye(4)).to_bytes())

    return write


def dicom(change: Callable) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        dataset = dcmread(get_testdata_file("CT_small.dcm", download=False))
        change(dataset)
        dataset.save_as(path)

    return write


def without_pixels(dataset) -> None:
    del dataset.PixelData


def two_frames(dataset) -> None:
    dataset.NumberOfFrames = 2


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        pytest.param(holding(b"only words\n" * 9), f"tệp chứa văn bản, dù tên tệp thế nào; {ACCEPTED}", id="text"),
        pytest.param(holding(b"%PDF-1.7\n"), f"tệp chứa tài liệu PDF, dù tên tệp thế nào; {ACCEPTED}", id="PDF"),
        pytest.param(holding(b"PK\3\4" + bytes(99)), f"tệp chứa tệp nén ZIP, dù tên tệp thế nào; {ACCEPTED}", id="ZIP"),
        pytest.param(holding(b""), f"tệp rỗng; {ACCEPTED}", id="empty"),
        pytest.param(lambda path: None, f"không có tệp này; {ACCEPTED}", id="no file"),
        pytest.param(Path.mkdir, f"đây là một thư mục; {ACCEPTED}", id="folder"),
        pytest.param(holding(gzip.compress(b"words" * 99)), f"tệp gzip không chứa ảnh NIfTI; {ACCEPTED}", id="gzip"),
        pytest.param(cut_short, DAMAGED.format("PNG, JPEG hoặc TIFF"), id="PNG cut short"),
        pytest.param(two_pages, f"có 2 trang hoặc khung hình; {ACCEPTED}. Hãy lưu riêng một trang trước.", id="TIFF"),
        pytest.param(nifti((4, 5, 6)), "khối 3 chiều (4, 5, 6); cần ảnh 2 chiều, hoặc 3 chiều chỉ có một lát cắt. Hãy "
                     "chọn một lát cắt trước.", id="volume"),
        pytest.param(nifti((4, 5, 6, 7)), "ảnh 4 chiều (4, 5, 6, 7); cần ảnh 2 chiều, hoặc 3 chiều chỉ có một lát cắt. "
                     "Hãy chọn một lát cắt trước.", id="4-D"),
        pytest.param(nifti((4, 5), 1j), "số phức; cần số thực hoặc màu RGB", id="complex"),
        pytest.param(nifti((4, 5), np.nan), "chứa giá trị NaN hoặc vô hạn; cần cường độ hữu hạn", id="NaN"),
        pytest.param(dicom(without_pixels), "tệp DICOM không có điểm ảnh (không phải ảnh, hoặc bị cắt ngang); "
                     f"{ACCEPTED}", id="DICOM without pixels"),
        pytest.param(dicom(two_frames), "tệp DICOM có 2 khung hình; cần một khung hình. Hãy chọn một khung trước.",
                     id="DICOM of two frames"),
    ],
)  # fmt: skip
def test_files_are_refused_in_vietnamese(write, sentence, tmp_path):
    path = tmp_path / "ảnh.png"
    write(path)
    with pytest.raises(InputError) as refused:
        read_scan(path)
    assert refusal(refused.value, Words("vi")) == f"{path}: {sentence}"
    assert refusal(refused.value, Words("en")) == str(refused.value)


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        pytest.param(two_pages, "chỉ là một ảnh đơn; cần khối ảnh NIfTI, NRRD hoặc MHA, loạt DICOM, phim, hoặc nhiều "
                     "khung hình", id="picture"),
        pytest.param(nifti((4, 5, 6, 7)), "ảnh 4 chiều (4, 5, 6, 7); cần ảnh 3 chiều. Hãy chọn một khối trước.",
                     id="4-D"),
        pytest.param(nifti((4, 5, 1)), "khối ảnh 4x5x1 điểm ảnh; cần từ hai lát cắt; một lát cắt là ảnh đơn",
                     id="one slice"),
        pytest.param(Path.mkdir, "không có lát cắt DICOM hay khung hình nào; cần khối ảnh NIfTI, NRRD hoặc MHA, loạt "
                     "DICOM, phim, hoặc nhiều khung hình", id="empty folder"),
    ],
)  # fmt: skip
def test_stacks_are_refused_in_vietnamese(write, sentence, tmp_path):
    path = tmp_path / "khối.nii"
    write(path)
    with pytest.raises(InputError) as refused:
        read_stack(path)
    assert refusal(refused.value, Words("vi")) == f"{path}: {sentence}"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (InputError("region 3", "no such region", "1 to 2"), "vùng 3: không có vùng này; cần từ 1 đến 2"),
        (InputError("classes", "'nose' is not a class of these weights", "lung, polyp"),
         "Không dùng được tùy chọn hoặc chỉnh sửa này. Nguyên văn tiếng Anh: “classes: 'nose' is not a class of these "
         "weights; expected lung, polyp”"),
        (InputError("a.png", "something new", "something else"),
         "Không dùng được tệp này. Nguyên văn tiếng Anh: “a.png: something new; expected something else”"),
        (WeightsError("no weights here"), "Không dùng được bộ trọng số. Nguyên văn tiếng Anh: “no weights here”"),
    ],
    ids=["translated", "option", "file", "weights"],
)  # fmt: skip
def test_what_has_no_translation_is_quoted(error, sentence):
    assert refusal(error, Words("vi")) == sentence


def test_braces_in_a_file_s_name_are_no_pattern():
    with pytest.raises(InputError) as refused:
        read_edits([{"action": "{thing}"}])
    assert "{thing}" in refusal(refused.value, Words("vi"))
    assert refusal(InputError("{x}.png", "empty file", "a file that you may read"), Words("vi")).startswith("{x}.png: ")
