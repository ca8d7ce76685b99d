"""The widgets of the tab of single images, and what sets them going."""

from __future__ import annotations

import gradio as gr

from page.answers import Answers
from page.canvas import canvas
from page.events import Events, class_choices, pictures
from page.words import Words, word
from pipeline.examples import Example
from pipeline.runtime import has_cuda

#: One at a time, because each answer uses all cores.
NETWORKS = {"concurrency_id": "networks", "concurrency_limit": 1}


def image_tab(
    page: gr.Blocks, answers: Answers, examples: list[Example], precisions: list[str]
) -> tuple[list[gr.components.Component], gr.components.Component]:
    """Build the tab; returns the inputs of what it asks for - image, precision, classes, least score - and the
    precision to compare with."""
    with gr.Row(elem_classes="columns"):  # on a phone they follow each other: page.css
        with gr.Column(scale=2, min_width=260, elem_classes="side"):
            image = gr.File(label=word("image"), height=140, elem_id="upload", elem_classes="upload")
            gallery = example_gallery(examples, elem_id="examples")
            with gr.Accordion(word("options"), elem_id="options", elem_classes="options"):
                precision, classes, min_score = common_options(answers, precisions)
        with gr.Column(scale=6, min_width=340, elem_id="results", elem_classes="results"):
            status = gr.HTML("", elem_id="status", elem_classes="status")
            surface = canvas(elem_id="canvas")
            with gr.Tabs():
                with gr.Tab(word("costs")):
                    costs = gr.HTML(elem_id="timings", elem_classes="timings")
                with gr.Tab(word("take_away")):
                    make_files = gr.Button(word("make_files"), size="sm")
                    gr.Markdown(word("make_files_info"))
                    files = gr.File(file_count="multiple", interactive=False, show_label=False, elem_id="files")
                    lacking = gr.HTML("", elem_id="lacking")
                with gr.Tab(word("compare")):
                    other = gr.Radio(choices_of(precisions), value=answers.release.precisions[-1],
                                     label=word("compare_with"))  # fmt: skip
                    compare_them = gr.Button(word("compare_button"), size="sm")
                    both = gr.ImageSlider(label=word("slider"), interactive=False, format="png", elem_id="slider")
                    comparison = gr.HTML(elem_id="comparison")
                with gr.Tab(word("record")):
                    show_json = gr.Button(word("show_json"), size="sm")
                    record = gr.JSON(show_label=False)
    # Not gr.State, which keeps a connection open for each page: a browser has six for all of its tabs.
    runs, edits = gr.JSON(visible=False), gr.JSON([], visible=False)

    events = Events(answers, examples, files.move_resource_to_block_cache)
    own = {"api_visibility": "private", **NETWORKS}
    inputs = [image, precision, classes, min_score]
    gr.on(
        [each.change for each in inputs], events.show, [*inputs, runs, edits],
        [status, surface, costs, record, files, both, comparison, runs, edits], trigger_mode="always_last", **own,
    )  # fmt: skip
    surface.edit(
        events.edit, [*inputs, runs], [status, surface, costs, record, files, edits],
        trigger_mode="multiple", show_progress="hidden", **own,
    )  # fmt: skip
    show_json.click(events.record, [*inputs, edits], record, **own)
    make_files.click(events.take_away, [*inputs, edits], [files, lacking], **own)
    compare_them.click(
        events.side_by_side, [image, precision, other, classes, min_score], [both, comparison], **own
    )  # fmt: skip
    gallery.select(events.choose, None, image, api_visibility="private")
    page.load(events.begin, None, [classes, gallery, status], api_visibility="private", show_progress="hidden")
    return inputs, other


def common_options(answers: Answers, precisions: list[str]) -> tuple[gr.Radio, gr.CheckboxGroup, gr.Slider]:
    """Precision, classes and least score."""
    note = None if has_cuda() or "fp16" not in precisions else word("no_fp16")
    precision = gr.Radio(choices_of(precisions), value=precisions[0], label=word("precision"), info=note)
    names = list(answers.class_names.values())
    classes = gr.CheckboxGroup(class_choices(answers, Words()), value=names, label=word("classes"))
    score = gr.Slider(0, 1, answers.own_score, step=0.01, label=word("min_score"), info=word("min_score_info"))
    return precision, classes, score


def example_gallery(examples: list[Example], **settings) -> gr.Gallery:
    return gr.Gallery(pictures(examples, Words()), label=word("examples"), columns=2,
                      height="auto", object_fit="contain", allow_preview=False, buttons=[], interactive=False,
                      format="png", elem_classes="examples", visible=bool(examples), **settings)  # fmt: skip


def choices_of(precisions: list[str]) -> list[tuple[str, str]]:
    return [(precision.upper(), precision) for precision in precisions]
