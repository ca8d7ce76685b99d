"""The named endpoints, for gradio_client and MCP.

Their docstrings are what both show. Gradio takes one line of each parameter and of what is returned, so each has one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import gradio as gr

from page.answers import Answers, Question
from page.comparison import compare
from page.refusals import said
from page.stack_upload import upload
from page.stacks import AXES, WINDOWS, Stacks, Stopped
from page.take_away import write_stack_take_away
from page.visitors import has_gone
from page.words import Words
from pipeline.edits import EDIT_SCHEMA, read_edits
from pipeline.stack_files import to_json


class Api:
    """Bound to the weights that the page was started with; `keep` moves a file to where a client may fetch it."""

    def __init__(self, answers: Answers, stacks: Stacks, keep: Callable[[Path], str]):
        self._answers, self._stacks, self._keep = answers, stacks, keep

    def segment(self, image: str | None, precision: str, classes: list[str], min_score: float):
        """Find and outline regions in one image. Research software, not a medical device.

        Parameters:
            image: PNG, JPEG, TIFF, DICOM or 2-D NIfTI file.
            precision: of the networks, "int8" or "fp32"; "fp16" where there is CUDA.
            classes: names of the classes to look for; all where it is left out.
            min_score: least score of a region, 0..1; the release's own thresholds where it is left out.

        Returns:
            What `python -m pipeline segment` writes as JSON: boxes are [x, y, width, height], masks COCO RLE.
        """
        with said():
            question = self._question(image, precision, classes, min_score)
            return self._answers.ask(question)[1].to_json(question.path.name)

    def correct(self, image: str | None, edits: list[dict], precision: str, classes: list[str], min_score: float):
        """Correct what /segment finds in an image: boxes, clicks, labels. Research software, not a medical device.

        Send the whole list of edits each time; to undo, leave out the last one. Of an image that was just segmented
        only the mask decoder runs, for the edits that are new. An edit is one of
        {"action": "add", "box": [x, y, width, height], "label": "polyp"},
        {"action": "box", "region": 1, "box": [x, y, width, height]},
        {"action": "click", "region": 1, "point": [x, y], "inside": false},
        {"action": "relabel", "region": 1, "label": "lung"},
        {"action": "delete", "region": 1}.

        Parameters:
            image: PNG, JPEG, TIFF, DICOM or 2-D NIfTI file.
            edits: applied in order; regions are numbered from 1, as they are at that moment.
            precision: of the networks, "int8" or "fp32"; "fp16" where there is CUDA.
            classes: names of the classes to look for; all where it is left out.
            min_score: least score of a region, 0..1; the release's own thresholds where it is left out.

        Returns:
            The JSON of /segment; corrected regions have "corrected": true and score 1, and "edits" repeats the list.
        """
        with said():
            question = self._question(image, precision, classes, min_score)
            return self._answers.corrected(question, read_edits(edits))[1].to_json(question.path.name)

    def compare(self, image: str | None, precision: str, other: str, classes: list[str], min_score: float):
        """Segment one image in two precisions and compare. Research software, not a medical device.

        Parameters:
            image: PNG, JPEG, TIFF, DICOM or 2-D NIfTI file.
            precision: of the first run, "int8" or "fp32".
            other: precision of the second run.
            classes: names of the classes to look for; all where it is left out.
            min_score: least score of a region, 0..1; the release's own thresholds where it is left out.

        Returns:
            Dice of each class and its mean, speed_ratio (the second's time over the first's), weights' bytes, timings.
        """
        with said():
            return compare(self._answers, self._question(image, precision, classes, min_score), other)[2]

    def segment_stack(self, files: list[str] | None, precision: str, classes: list[str], min_score: float, cut: str,
                      window: str):  # fmt: skip
        """Find objects in a volume or a video and follow them. Research software, not a medical device.

        Parameters:
            files: a NIfTI, NRRD, MHA, multi-frame DICOM, MP4, AVI or GIF file; or a DICOM series, zipped or as files.
            precision: of the networks, "int8" or "fp32".
            classes: names of the classes to look for; all where it is left out.
            min_score: least score of an object's surest box, 0..1; the release's own thresholds where it is left out.
            cut: of a volume, "axial", "coronal" or "sagittal" slices; "auto" as they were made.
            window: of a CT, "brain", "soft_tissue", "lung" or "bone"; "auto" for anything else.

        Returns:
            The JSON of `python -m pipeline segment`, objects with spans and measures; and its files, masks among them.
        """
        with said():
            if not files:
                raise gr.Error(Words()("no_stack"), print_exception=False)
            try:
                return self._segment_stack(files, precision, classes, min_score, cut, window)
            except Stopped:  # nobody is told, and it is no fault of the page
                raise gr.Error(Words()("stopped"), print_exception=False) from None

    def _segment_stack(self, files: list[str], precision: str, classes: list[str], min_score: float, cut: str,
                       window: str) -> tuple[dict, list[str]]:  # fmt: skip
        with upload(files) as path, tempfile.TemporaryDirectory() as folder:
            question = self._stacks.question(path, precision, classes, min_score, AXES[cut], WINDOWS[window])
            stack, found = self._stacks.ask(question, gone=has_gone())
            written = [self._keep(each) for each in write_stack_take_away(Path(folder), stack, found)]
            return to_json(path.name, stack, found), written

    def _question(self, image: str | None, precision: str, classes: list[str], min_score: float) -> Question:
        if image is None:
            raise gr.Error(Words()("no_image"), print_exception=False)
        return self._answers.question(image, precision, classes, min_score)


def edits_parameter() -> gr.JSON:
    """Where /correct takes its edits, with their form, which a plain gr.JSON would not tell a client."""
    parameter = gr.JSON([], visible=False, label="edits")
    parameter.api_info = lambda: {"type": "array", "items": EDIT_SCHEMA}
    parameter.example_payload = lambda: [{"action": "delete", "region": 1}]
    return parameter
