"""Why an input can't be used, in the visitor's language.

The readers say it in English, in three parts: what it is about, what was found there, what is expected. Each part has a
pattern here; where one has none, the sentence says in Vietnamese what kind of thing is wrong and quotes the English.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

import gradio as gr

from hub import WeightsError
from page.words import Words
from pipeline.errors import InputError
from pipeline.readers.content import ACCEPTED_STACKS

#: English pattern -> Vietnamese. {names} stand for anything, and are looked up themselves where `_THINGS` has them.
_PROBLEMS = {
    "holds {thing}, whatever its name says": "tệp chứa {thing}, dù tên tệp thế nào",
    "empty file": "tệp rỗng",
    "no such file": "không có tệp này",
    "no such file or folder": "không có tệp hay thư mục này",
    "a folder": "đây là một thư mục",
    "not a regular file": "không phải tệp thông thường",
    "no permission to read it": "không có quyền đọc",
    "can't be opened ({reason})": "không mở được ({reason})",
    "a gzip file that holds no NIfTI image": "tệp gzip không chứa ảnh NIfTI",
    "damaged, cut short, or of an unsupported variant": "tệp hỏng, bị cắt ngang, hoặc thuộc dạng không được hỗ trợ",
    "an image of {size} pixels": "ảnh có {size} điểm ảnh",
    "an image of more than {count} million pixels": "ảnh có hơn {count} triệu điểm ảnh",
    "a JPEG of very many scans": "tệp JPEG có quá nhiều lượt quét",
    "a compressed image of {size} pixels in {channels} channels": "ảnh nén có {size} điểm ảnh, {channels} kênh",
    "a deflated DICOM file that holds far more than it seems to": "tệp DICOM nén chứa nhiều hơn hẳn vẻ ngoài của nó",
    "{count} pages or frames": "có {count} trang hoặc khung hình",
    "a DICOM file without pixels (no image, or cut short)":
        "tệp DICOM không có điểm ảnh (không phải ảnh, hoặc bị cắt ngang)",
    "a DICOM file of {count} frames": "tệp DICOM có {count} khung hình",
    "a DICOM image of {count} channels": "ảnh DICOM có {count} kênh",
    "its pixels can't be decoded (damaged, cut short, or an unsupported compression)":
        "không giải mã được điểm ảnh (tệp hỏng, bị cắt ngang, hoặc kiểu nén không được hỗ trợ)",
    "{count}-D image {shape}": "ảnh {count} chiều {shape}",
    "3-D volume {shape}": "khối 3 chiều {shape}",
    "image {shape} without voxels": "ảnh {shape} không có điểm ảnh nào",
    "complex numbers": "số phức",
    "holds NaN or infinite values": "chứa giá trị NaN hoặc vô hạn",
    "took longer than {seconds} s": "mất hơn {seconds} giây",
    "fp16 computes in half precision on CUDA, which onnxruntime does not have here":
        "fp16 tính ở độ chính xác một nửa trên CUDA, mà onnxruntime ở đây không có",
    "these weights hold no {precision}": "bộ trọng số này không có {precision}",
    "{name} is not a class of these weights": "{name} không phải lớp của bộ trọng số này",
    "no such region": "không có vùng này",
    "lies outside of the image": "nằm ngoài ảnh",
    "{count} of them": "có {count}",
    "no region": "không có vùng nào",
    "no {keyword}": "thiếu {keyword}",
    "a single image": "chỉ là một ảnh đơn",
    "a volume of {size} voxels": "khối ảnh {size} điểm ảnh",
    "a video without frames": "phim không có khung hình nào",
    "a file without a picture stream": "tệp không có hình",
    "frame {number} has {size} pixels, the first {first}":
        "khung hình {number} có {size} điểm ảnh, khung đầu có {first}",
    "{size} pixels, {name} has {first}": "{size} điểm ảnh, còn {name} có {first}",
    "a folder without DICOM slices or frames": "không có lát cắt DICOM hay khung hình nào",
    "a folder without DICOM slices": "không có lát cắt DICOM nào",
    "{count} series, of {slices} slices": "có {count} loạt, gồm {slices} lát cắt",
    "a series of one slice": "loạt chỉ có một lát cắt",
    "slices of different sizes in one series": "các lát cắt trong một loạt có cỡ khác nhau",
    "slices of different directions or pixel spacings in one series":
        "các lát cắt trong một loạt khác hướng hoặc khác khoảng cách điểm ảnh",
    "{some} of {all} slices without a position": "{some} trong {all} lát cắt không có vị trí",
    "slices that all lie at one position": "mọi lát cắt nằm cùng một vị trí",
    "a ZIP that is damaged or encrypted": "tệp ZIP hỏng hoặc có mật khẩu",
    "a ZIP of {count} files": "tệp ZIP có {count} tệp",
    "a ZIP of a large series": "tệp ZIP chứa loạt quá lớn",
}  # fmt: skip
_EXPECTED = {
    "a PNG, JPEG, TIFF, single DICOM or 2-D NIfTI file": "một tệp PNG, JPEG, TIFF, DICOM đơn hoặc NIfTI 2 chiều",
    "a PNG, JPEG, TIFF, single DICOM or 2-D NIfTI file. Save one page first.":
        "một tệp PNG, JPEG, TIFF, DICOM đơn hoặc NIfTI 2 chiều. Hãy lưu riêng một trang trước.",
    "a file that you may read": "một tệp mà bạn được đọc",
    "at least one pixel": "ít nhất một điểm ảnh",
    "at most {count} million pixels": "nhiều nhất {count} triệu điểm ảnh",
    "at most {count} million values": "nhiều nhất {count} triệu giá trị",
    "at most {count} MiB of it": "nhiều nhất {count} MiB sau khi giải nén",
    "the same picture saved anew": "chính ảnh ấy được lưu lại",
    "at most {count}": "nhiều nhất {count}",
    "a whole {kind} file": "một tệp {kind} nguyên vẹn",
    "a whole DICOM file, uncompressed, RLE, JPEG, JPEG-LS or JPEG 2000":
        "một tệp DICOM nguyên vẹn, không nén hoặc nén RLE, JPEG, JPEG-LS hay JPEG 2000",
    "a single frame. Pick one frame first.": "một khung hình. Hãy chọn một khung trước.",
    "grey, palette, RGB or YBR": "ảnh xám, bảng màu, RGB hoặc YBR",
    "a 2-D image or a 3-D one of a single slice. Pick one slice first.":
        "ảnh 2 chiều, hoặc 3 chiều chỉ có một lát cắt. Hãy chọn một lát cắt trước.",
    "real numbers or RGB colours": "số thực hoặc màu RGB",
    "finite intensities": "cường độ hữu hạn",
    "a smaller image, or another try later": "một ảnh nhỏ hơn, hoặc thử lại sau",
    "int8 or fp32": "int8 hoặc fp32",
    "none here": "không có vùng nào ở đây",
    "{first} to {last}": "từ {first} đến {last}",
    "one that covers some of its {size}": "khung phủ một phần của ảnh {size}",
    "a point of its {size} pixels": "một điểm trong ảnh {size} điểm ảnh",
    "an image whose header keeps to the standard": "một ảnh có phần đầu tệp đúng chuẩn",
    ACCEPTED_STACKS: "khối ảnh NIfTI, NRRD hoặc MHA, loạt DICOM, phim, hoặc nhiều khung hình",
    "two slices or more; one alone is an image": "từ hai lát cắt; một lát cắt là ảnh đơn",
    "at least one voxel": "ít nhất một điểm ảnh",
    "at most {count} million voxels": "nhiều nhất {count} triệu điểm ảnh",
    "at most {count} million pixels in all frames. Cut it first.":
        "nhiều nhất {count} triệu điểm ảnh trong mọi khung hình. Hãy cắt ngắn trước.",
    "at most {count} MB unpacked": "nhiều nhất {count} MB sau khi giải nén",
    "3-D. Pick one volume first.": "ảnh 3 chiều. Hãy chọn một khối trước.",
    "at least one frame": "ít nhất một khung hình",
    "a video with frames": "một phim có khung hình",
    "frames of one size": "các khung hình cùng cỡ",
    "the slices of one series in a folder of their own": "các lát cắt của một loạt duy nhất",
    "two positions or more": "từ hai vị trí",
    "a position in each slice": "vị trí trong mỗi lát cắt",
    "a volume, a video, or the slices of one DICOM series, as files or zipped":
        "một khối ảnh, một phim, hoặc các lát cắt của một loạt DICOM, để rời hoặc nén ZIP",
    "a DICOM image with it, for a Segmentation has to refer to it":
        "một ảnh DICOM có mục đó, vì DICOM Segmentation phải dẫn tới nó",
}  # fmt: skip
#: What the readers find instead of an image, and kinds of files.
_THINGS = {
    "text": "văn bản",
    "unknown data": "dữ liệu không rõ loại",
    "a PDF document": "tài liệu PDF",
    "a GIF image": "ảnh GIF",
    "a BMP image": "ảnh BMP",
    "a ZIP archive": "tệp nén ZIP",
    "a WebP image or AVI video": "ảnh WebP hoặc phim AVI",
    "a Matroska video": "phim Matroska",
    "a bare JPEG 2000 image": "ảnh JPEG 2000 trần",
    "an SVG drawing": "hình vẽ SVG",
    "an XML or HTML document": "tài liệu XML hoặc HTML",
    "the header of a NIfTI pair (.hdr and .img)": "phần đầu của cặp tệp NIfTI (.hdr và .img)",
    "PNG, JPEG or TIFF": "PNG, JPEG hoặc TIFF",
}
#: Of an InputError, where it is not a file's name; edits are told by their number.
_SUBJECTS = {
    "image": "ảnh",
    "precision": "độ chính xác số",
    "classes": "lớp",
    "min_score": "điểm tối thiểu",
    "edits": "các chỉnh sửa",
    "label": "nhãn",
    "edit {number}": "chỉnh sửa {number}",
    "region {number}": "vùng {number}",
    "click {place}": "điểm bấm {place}",
    "box {place}": "khung {place}",
}


def refusal(error: Exception, words: Words) -> str:
    """The sentence of an InputError or WeightsError."""
    if words.language == "en":
        return str(error)
    if not isinstance(error, InputError):
        return words("weights_refused", english=error)
    subject = _told(error.subject, _SUBJECTS)
    problem, expected = _told(error.problem, _PROBLEMS), _told(error.expected, _EXPECTED)
    if problem and expected:
        return words("refused", subject=subject or error.subject, problem=problem, expected=expected)
    return words("option_refused" if subject else "file_refused", english=error)


def refused_html(error: Exception, words: Words) -> str:
    return f'<div class="refused" role="alert">{escape(refusal(error, words))}</div>'


@contextmanager
def said(words: Words | None = None) -> Iterator[None]:
    """What an input or the weights are refused for, as one sentence to a client or in a corner of the page.

    A client is told in English, whatever its language.
    """
    try:
        yield
    except (InputError, WeightsError) as error:
        raise gr.Error(escape(refusal(error, words or Words()), quote=False), print_exception=False) from error


def _told(english: str, table: dict[str, str]) -> str | None:
    """By the first pattern that fits; None where none does."""
    for pattern, vietnamese in table.items():
        found = re.fullmatch(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(pattern)), english)
        if found:
            return vietnamese.format(**{name: _THINGS.get(text, text) for name, text in found.groupdict().items()})
    return None
