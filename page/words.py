"""Every string that the page shows, in English and Vietnamese, and which of the two a visitor reads.

What widgets show from the start is translated by gradio in the browser (`gr.I18n`); what an answer brings is written in
the language of the request. Both go by the browser's first language. Why an input can't be used the readers say in
English; `refusals` tells it in Vietnamese.
"""

from __future__ import annotations

import json

import gradio as gr
from gradio.i18n import I18nData

from pipeline.results import NOTICE, OUT_OF_SCOPE

#: Key -> English, Vietnamese.
_WORDS = {
    "notice": (NOTICE, "Phần mềm nghiên cứu, không phải thiết bị y tế."),
    "about": (
        "Finds and outlines regions in a medical image (PNG, JPEG, TIFF, DICOM or 2-D NIfTI), without any prompt.",
        "Tìm và khoanh vùng trong ảnh y khoa (PNG, JPEG, TIFF, DICOM hoặc NIfTI 2 chiều), không cần gợi ý.",
    ),
    "image": ("Image", "Ảnh"),
    "examples": ("Examples", "Ví dụ"),
    "options": ("Options", "Tùy chọn"),
    "precision": ("Precision", "Độ chính xác số"),
    "no_fp16": (
        "FP16 computes in half precision on an NVIDIA GPU only, which is not used here.",
        "FP16 chỉ tính được ở độ chính xác một nửa trên GPU NVIDIA, máy này không dùng.",
    ),
    "classes": ("Classes", "Lớp"),
    "min_score": ("Minimum score", "Điểm tối thiểu"),
    "min_score_info": (
        "Where it starts, each class has its own threshold.",
        "Ở mức ban đầu, mỗi lớp có ngưỡng riêng.",
    ),
    "costs": ("Timings", "Thời gian"),
    "take_away": ("Files", "Tệp kết quả"),
    "compare": ("Compare precisions", "So sánh độ chính xác"),
    "record": ("JSON", "JSON"),
    "make_files": ("Make the files", "Tạo tệp"),
    "make_files_info": (
        "Label map, overlay, JSON and COCO JSON; NIfTI for NIfTI, DICOM SEG for DICOM. Corrections are marked in each.",
        "Bản đồ nhãn, ảnh chồng lớp, JSON và COCO JSON; NIfTI cho NIfTI, DICOM SEG cho DICOM. Mọi chỉnh sửa đều được "
        "ghi trong tệp.",
    ),
    "files": ("Files", "Tệp"),
    "no_image": ("No image; upload one first.", "Chưa có ảnh; hãy tải ảnh lên trước."),
    "compare_with": ("With", "Với"),
    "compare_button": ("Compare", "So sánh"),
    "slider": ("Left: the chosen precision; right: the other", "Trái: độ chính xác đã chọn; phải: độ chính xác kia"),
    "show_json": ("Show", "Hiện"),
    # status
    "start": (
        "Upload an image or choose an example; its regions appear here.",
        "Tải ảnh lên hoặc chọn một ví dụ; các vùng sẽ hiện ở đây.",
    ),
    "found_none": ("Nothing found.", "Không tìm thấy vùng nào."),
    "found_one": ("1 region found.", "Tìm thấy 1 vùng."),
    "found_many": ("{count} regions found.", "Tìm thấy {count} vùng."),
    "corrected_count": ("Corrections: {count}.", "Chỉnh sửa: {count}."),
    "out_of_scope": (
        OUT_OF_SCOPE,
        "Ảnh này không giống bất kỳ loại ảnh nào mà mô hình biết: đừng dựa vào những gì tìm thấy.",
    ),
    # what is refused; the readers' English is told by page/refusals.py
    "refused": ("{subject}: {problem}; expected {expected}", "{subject}: {problem}; cần {expected}"),
    "file_refused": (
        "This file can't be used: {english}",
        "Không dùng được tệp này. Nguyên văn tiếng Anh: “{english}”",
    ),
    "option_refused": (
        "This option or correction can't be used: {english}",
        "Không dùng được tùy chọn hoặc chỉnh sửa này. Nguyên văn tiếng Anh: “{english}”",
    ),
    "weights_refused": (
        "The weights can't be used: {english}",
        "Không dùng được bộ trọng số. Nguyên văn tiếng Anh: “{english}”",
    ),
    # costs
    "milliseconds": ("Milliseconds", "Mili giây"),
    "read": ("read", "đọc"),
    "detect": ("detect", "phát hiện"),
    "embed": ("embed", "mã hóa"),
    "decode": ("decode", "giải mã"),
    "post": ("post", "hậu xử lý"),
    "total": ("total", "tổng"),
    "weights_bytes": ("Weights {megabytes} MB", "Trọng số {megabytes} MB"),
    "process_bytes": ("process {megabytes} MB", "tiến trình {megabytes} MB"),
    "first_runs": (
        "First run of each precision on this image, milliseconds",
        "Lần chạy đầu của mỗi độ chính xác trên ảnh này, mili giây",
    ),
    # comparison
    "dice_of": ("Dice of {name}: {value}", "Dice của {name}: {value}"),
    "neither": ("Neither found anything.", "Cả hai đều không tìm thấy gì."),
    "takes_times": (
        "{second} takes {ratio} times as long as {first} ({b} and {a} ms)",
        "{second} mất thời gian gấp {ratio} lần {first} ({b} và {a} ms)",
    ),
    "both_weights": ("Weights: {first} {a} MB, {second} {b} MB", "Trọng số: {first} {a} MB, {second} {b} MB"),
    # volumes and videos
    "tab_image": ("Image", "Ảnh"),
    "tab_stack": ("Volume and video", "Khối ảnh và phim"),
    "stack": ("Volume, DICOM series or video", "Khối ảnh, loạt DICOM hoặc phim"),
    "stack_formats": (
        "NIfTI, NRRD, MHA, a DICOM series (all its files, or zipped), multi-frame DICOM, MP4, AVI, GIF.",
        "NIfTI, NRRD, MHA, loạt DICOM (mọi tệp, hoặc nén ZIP), DICOM nhiều khung hình, MP4, AVI, GIF.",
    ),
    "stack_start": (
        "Upload a volume or a video, or choose an example; its objects appear here.",
        "Tải khối ảnh hoặc phim lên, hoặc chọn một ví dụ; các đối tượng sẽ hiện ở đây.",
    ),
    "cut": ("Slices of a volume", "Lát cắt của khối ảnh"),
    "cut.auto": ("as they were made", "như lúc chụp"),
    "cut.axial": ("axial", "ngang"),
    "cut.coronal": ("coronal", "vành"),
    "cut.sagittal": ("sagittal", "dọc"),
    "window": ("Window of a CT", "Cửa sổ CT"),
    "window.auto": ("automatic", "tự động"),
    "window.brain": ("brain (40, 80)", "não (40, 80)"),
    "window.soft_tissue": ("soft tissue (50, 400)", "mô mềm (50, 400)"),
    "window.lung": ("lung (-600, 1500)", "phổi (-600, 1500)"),
    "window.bone": ("bone (400, 1800)", "xương (400, 1800)"),
    "cancel": ("Cancel", "Hủy"),
    "reading": ("Reading", "Đang đọc"),
    "working": ("Looking", "Đang tìm"),
    "time_left": ("about {seconds} s left", "còn khoảng {seconds} giây"),
    "steps": ("steps", "bước"),
    "writing": ("Almost done", "Sắp xong"),
    "stopped": ("Cancelled.", "Đã hủy."),
    "object_one": ("1 object found", "Tìm thấy 1 đối tượng"),
    "object_many": ("{count} objects found", "Tìm thấy {count} đối tượng"),
    "slices_took": ("in {count} slices; {seconds} s.", "trong {count} lát cắt; {seconds} giây."),
    "frames_took": ("in {count} frames; {seconds} s.", "trong {count} khung hình; {seconds} giây."),
    "span": ("{first} to {last}", "{first} đến {last}"),
    "no_stack": ("No file; upload one first.", "Chưa có tệp; hãy tải lên trước."),
    "slice_of": ("Slice {number} / {last}", "Lát cắt {number} / {last}"),
    "frame_of": ("Frame {number} / {last}", "Khung hình {number} / {last}"),
    "play": ("Play", "Phát"),
    "area_over_time": ("Area over time", "Diện tích theo thời gian"),
    "area_over_slices": ("Area over slices", "Diện tích theo lát cắt"),
    "column_slices": ("slices", "lát cắt"),
    "column_frames": ("frames", "khung hình"),
    "column_volume": ("volume ml", "thể tích ml"),
    "column_longest": ("longest diameter mm", "đường kính dài nhất mm"),
    "column_largest_mm2": ("largest area mm²", "diện tích lớn nhất mm²"),
    "column_smallest_mm2": ("smallest area mm²", "diện tích nhỏ nhất mm²"),
    "column_largest_px": ("largest area px", "diện tích lớn nhất px"),
    "column_smallest_px": ("smallest area px", "diện tích nhỏ nhất px"),
    "column_shrinks": ("1 - smallest / largest", "1 - nhỏ nhất / lớn nhất"),
    "montage": ("Montage", "Bảng lát cắt"),
    "surface": ("3-D surface", "Bề mặt 3 chiều"),
    "memory": ("memory", "bộ nhớ"),
    # classes
    "class.brain_tumor": ("brain tumor", "u não"),
    "class.hippocampus": ("hippocampus", "hồi hải mã"),
    "class.lung": ("lung", "phổi"),
    "class.left_ventricle": ("left ventricle", "thất trái"),
    "class.polyp": ("polyp", "polyp"),
    "class.fetal_head": ("fetal head", "đầu thai nhi"),
    "class.breast_lesion": ("breast lesion", "tổn thương vú"),
    "class.region": ("region", "vùng"),
    # captions of the examples
    "Phantom: chest X-ray": ("Phantom: chest X-ray", "Hình mô phỏng: X-quang ngực"),
    "Phantom: brain MRI": ("Phantom: brain MRI", "Hình mô phỏng: MRI não"),
    "Phantom: fetal ultrasound": ("Phantom: fetal ultrasound", "Hình mô phỏng: siêu âm thai"),
    "Phantom: breast ultrasound": ("Phantom: breast ultrasound", "Hình mô phỏng: siêu âm vú"),
    "Phantom: colonoscopy": ("Phantom: colonoscopy", "Hình mô phỏng: nội soi đại tràng"),
    "Phantom volume: heart MRI": ("Phantom volume: heart MRI", "Khối ảnh mô phỏng: MRI tim"),
    "Phantom video: beating heart": ("Phantom video: beating heart", "Phim mô phỏng: tim đập"),
    "Real ultrasound video: no known class": (
        "Real ultrasound video: no known class",
        "Phim siêu âm thật: không có lớp đã biết",
    ),
    "Real MRI of the abdomen: no known class": (
        "Real MRI of the abdomen: no known class",
        "MRI bụng thật: không có lớp đã biết",
    ),
    "Real CT of the head: no known class": (
        "Real CT of the head: no known class",
        "CT đầu thật: không có lớp đã biết",
    ),
    # canvas
    "canvas": ("Image with its regions", "Ảnh với các vùng"),
    "tools": ("Correct", "Chỉnh sửa"),
    "tool_select": ("Select", "Chọn"),
    "tool_new": ("New box", "Khung mới"),
    "tool_add": ("Add", "Thêm"),
    "tool_take": ("Take away", "Bớt"),
    "hint_select": ("Choose a region; drag its box or a corner.", "Chọn một vùng; kéo khung hoặc góc khung."),
    "keys_select": (
        "Keys: arrows move, Shift and arrows resize, Enter chooses the next, Delete deletes.",
        "Phím: mũi tên để dời, Shift và mũi tên để đổi cỡ, Enter chọn vùng kế tiếp, Delete để xóa.",
    ),
    "hint_new": ("Draw a box around a region.", "Vẽ khung quanh một vùng."),
    "keys_new": (
        "Keys: arrows move the cross, Enter puts a box there.",
        "Phím: mũi tên dời dấu thập, Enter đặt khung ở đó.",
    ),
    "hint_add": ("Click what belongs to the chosen region.", "Bấm vào chỗ thuộc vùng đã chọn."),
    "keys_add": (
        "Keys: arrows move the cross, Enter clicks.",
        "Phím: mũi tên dời dấu thập, Enter để bấm.",
    ),
    "hint_take": ("Click what does not belong to the chosen region.", "Bấm vào chỗ không thuộc vùng đã chọn."),
    "keys_take": (
        "Keys: arrows move the cross, Enter clicks.",
        "Phím: mũi tên dời dấu thập, Enter để bấm.",
    ),
    "undo": ("Undo", "Hoàn tác"),
    "opacity": ("Opacity", "Độ đậm"),
    "show_region": ("Show region {number}", "Hiện vùng {number}"),
    "label_of": ("Label of region {number}", "Nhãn của vùng {number}"),
    "delete_region": ("Delete region {number}", "Xóa vùng {number}"),
    "corrected": ("corrected", "đã sửa"),
    "column_label": ("label", "nhãn"),
    "column_score": ("score", "điểm"),
    "column_box": ("box [x, y, w, h]", "khung [x, y, w, h]"),
    "column_iou": ("predicted IoU", "IoU dự đoán"),
    "column_px": ("area px", "diện tích px"),
    "column_mm2": ("area mm²", "diện tích mm²"),
}
LANGUAGES = ("en", "vi")
#: Gradio's own strings that this page shows, which it lacks in Vietnamese.
_GRADIO_VI = {
    "upload_text": {
        "click_to_upload": "Bấm để tải lên",
        "drop_file": "Thả tệp vào đây",
        "or": "hoặc",
    },
    "common": {"or": "hoặc", "clear": "Xóa", "remove": "Bỏ", "download": "Tải về", "loading": "Đang tải"},
}

TABLES: dict[str, dict[str, str]] = {
    language: {key: texts[column] for key, texts in _WORDS.items()} for column, language in enumerate(LANGUAGES)
}
#: Before each key in the browser, where gradio's own `image` and `files` are.
_PREFIX = "page_"
I18N = gr.I18n(**{
    language: {_PREFIX + key: text for key, text in table.items()} | (_GRADIO_VI if language == "vi" else {})
    for language, table in TABLES.items()
})  # fmt: skip


#: Labels of tabs.
_TABS = ("tab_image", "tab_stack", "montage", "surface", "costs", "take_away", "compare", "record")
#: For `head.html`, which puts right those that gradio laid out before it knew the language: English -> Vietnamese.
HEAD = f"<script>window.tabLabels = {json.dumps({TABLES['en'][key]: TABLES['vi'][key] for key in _TABS})};</script>"


def word(key: str) -> I18nData:
    """A string of a widget, which the browser looks up in its own language."""
    return I18N(_PREFIX + key)


class Words:
    """The strings of one language."""

    def __init__(self, language: str = "en"):
        self.language, self._table = language, TABLES[language]

    @classmethod
    def of(cls, request: gr.Request | None) -> Words:
        """By the first language that the browser asks for; English where that is another one, or none."""
        asked = request.headers.get("accept-language", "") if request else ""
        first = asked.split(",")[0].split("-")[0].strip().lower()
        return cls(first if first in LANGUAGES else "en")

    def __call__(self, key: str, **values: object) -> str:
        return self._table[key].format(**values)

    def label(self, name: str) -> str:
        """A class' name; that of other weights as it is."""
        return self._table.get(f"class.{name}", name)

    def caption(self, text: str) -> str:
        """Of an example; a file's name as it is."""
        return self._table.get(text, text)
