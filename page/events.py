"""What happens on the page when something is chosen, corrected or asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image

from hub import WeightsError
from page.answers import Answers, Question
from page.canvas import canvas_value
from page.comparison import compare, comparison_html
from page.costs import costs_html
from page.lasting_edits import Noted, note, retell
from page.refusals import refused_html, said
from page.take_away import write_take_away
from page.words import Words
from pipeline.errors import InputError
from pipeline.examples import Example
from pipeline.overlay import draw_overlay, layers
from pipeline.results import Segmentation
from pipeline.scan import Scan


class Events:
    """The page's own, which no client calls.

    Parameters
    ----------
    examples
        What the gallery offers, in its order.
    keep
        Moves a file to where the page may give it to its visitor, and tells where.
    """

    def __init__(self, answers: Answers, examples: list[Example], keep: Callable[[Path], str]):
        self._answers, self._examples, self._keep = answers, examples, keep

    def show(self, image: str | None, precision: str, classes: list[str], min_score: float, runs: dict | None,
             edits: list | None, request: gr.Request):  # fmt: skip
        """A new image or other options -> status, canvas, costs, record, files, slider, comparison, runs, edits.

        With other options the corrections stay, and so they do where these options are refused.
        """
        nothing = ({}, "", None, None, None, "")
        words = Words.of(request)
        if image is None:
            return start_html(words), *nothing, None, []
        same = bool(runs) and runs["image"] == image
        seen, given = (runs["times"], edits or []) if same else ({}, [])
        question = self._answers.question(image, precision, classes, min_score)
        try:
            # a run that took a kept embedding would pass for a faster precision
            ask = self._answers.ask if precision in seen else self._answers.ask_anew
            scan, found = ask(question)
            noted, _, corrected = self._corrected(question, given)
        except (InputError, WeightsError) as error:
            return refused_html(error, words), *nothing, {"image": image, "times": seen}, given
        record = corrected.to_json(question.path.name)
        times = found.to_json(question.path.name)["timings_ms"]
        seen = {**seen, precision: seen.get(precision, times)}
        canvas = canvas_value(scan.pixels, corrected, record, words, self._answers.class_names, noted)
        costs = costs_html(times, self._answers.weights_bytes(precision), seen, words)
        status = status_html(corrected, len(noted), words)
        return status, canvas, costs, None, None, None, "", {"image": image, "times": seen}, canvas["edits"]

    def edit(self, image: str | None, precision: str, classes: list[str], min_score: float, runs: dict | None,
             event: gr.EventData, request: gr.Request):  # fmt: skip
        """A correction or undo -> status, canvas, costs, record, files, edits. One that can't be is left out."""
        if image is None:
            return [gr.skip()] * 6
        words, refusal = Words.of(request), ""
        question = self._answers.question(image, precision, classes, min_score)
        given = event._data["edits"]
        try:
            noted, _, found = self._corrected(question, given)
        except (InputError, WeightsError) as error:
            refusal = refused_html(error, words)
            with said(words):
                noted, _, found = self._corrected(question, given[:-1])
        record = found.to_json(question.path.name)
        canvas = canvas_value(None, found, record, words, self._answers.class_names, noted)
        seen = runs["times"] if runs else {}
        costs = costs_html(record["timings_ms"], self._answers.weights_bytes(precision), seen, words)
        return refusal + status_html(found, len(noted), words), canvas, costs, None, None, canvas["edits"]

    def record(self, image: str | None, precision: str, classes: list[str], min_score: float, edits: list | None,
               request: gr.Request):  # fmt: skip
        """The JSON, with the corrections."""
        if image is None:
            return None
        with said(Words.of(request)):
            question = self._answers.question(image, precision, classes, min_score)
            return self._corrected(question, edits or [])[2].to_json(question.path.name)

    def take_away(self, image: str | None, precision: str, classes: list[str], min_score: float, edits: list | None,
                  request: gr.Request):  # fmt: skip
        """The files, with the corrections, and why one of them is lacking."""
        if image is None:
            return None, ""
        words = Words.of(request)
        with said(words), tempfile.TemporaryDirectory() as folder:
            question = self._answers.question(image, precision, classes, min_score)
            _, scan, found = self._corrected(question, edits or [])
            written, refused = write_take_away(Path(folder), scan, found, self._answers.class_names)
            return [self._keep(path) for path in written], refused_html(refused, words) if refused else ""

    def _corrected(self, question: Question, given: list) -> tuple[tuple[Noted, ...], Scan, Segmentation]:
        """What a person corrected, perhaps with other options, applied to what is found with these."""
        scan, found = self._answers.corrected(question)
        noted = note(given, found)
        if noted:
            scan, found = self._answers.corrected(question, retell(noted, found))
        return noted, scan, found

    def side_by_side(self, image: str | None, precision: str, other: str, classes: list[str], min_score: float,
                request: gr.Request):  # fmt: skip
        """Two precisions -> both overlays, and what parts them."""
        if image is None:
            return None, ""
        words = Words.of(request)
        try:
            question = self._answers.question(image, precision, classes, min_score)
            scan, found, facts = compare(self._answers, question, other)
        except (InputError, WeightsError) as error:
            return None, refused_html(error, words)
        pictures = tuple(draw_overlay(*_for_display(scan.pixels, answer)) for answer in found)
        return pictures, comparison_html(facts, words)

    def begin(self, request: gr.Request):
        """A page that was opened -> classes, examples and status in the visitor's language."""
        words = Words.of(request)
        classes = gr.CheckboxGroup(choices=class_choices(self._answers, words))
        return classes, gr.Gallery(pictures(self._examples, words)), start_html(words)

    def choose(self, event: gr.SelectData) -> str:
        """An example -> its file."""
        return str(self._examples[event.index].path)


def class_choices(answers: Answers, words: Words) -> list[tuple[str, str]]:
    return [(words.label(name), name) for name in answers.class_names.values()]


def pictures(examples: list[Example], words: Words) -> list[tuple[Image.Image, str]]:
    return [(example.picture, words.caption(example.caption)) for example in examples]


def start_html(words: Words) -> str:
    return f'<div id="start" class="start">{words("start")}</div>'


def status_html(found: Segmentation, corrections: int, words: Words) -> str:
    """What was found, how much of it a person corrected, and whether to mistrust it."""
    keys = {0: "found_none", 1: "found_one"}
    parts = [words(keys.get(len(found), "found_many"), count=len(found))]
    parts += [words("corrected_count", count=corrections)] if corrections else []
    strange = f'<div class="strange" role="alert">{words("out_of_scope")}</div>' if found.out_of_scope else ""
    return f"<p>{' '.join(parts)}</p>{strange}"


def _for_display(pixels: np.ndarray, found: Segmentation) -> tuple[np.ndarray, Segmentation]:
    """Image and regions, shrunk to what a browser needs."""
    shrunk, _ = layers(pixels, found)
    return shrunk, found.at_size(shrunk.shape[1], shrunk.shape[0])
