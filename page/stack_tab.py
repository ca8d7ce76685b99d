"""The widgets of the tab of volumes and videos, and what sets them going."""

from __future__ import annotations

import gradio as gr

from page.answers import Answers
from page.image_tab import common_options, example_gallery
from page.stack_events import StackEvents
from page.stacks import AXES, WINDOWS, Stacks
from page.viewer import viewer
from page.words import word
from pipeline.examples import Example

#: One stack at a time; what is asked about images goes in between, see `Turns`.
STACKS = {"concurrency_id": "stacks", "concurrency_limit": 1}


def stack_tab(
    page: gr.Blocks, answers: Answers, stacks: Stacks, examples: list[Example], precisions: list[str]
) -> tuple[list[gr.components.Component], gr.File]:
    """Build the tab; returns the inputs of what it asks for - files, precision, classes, least score, cut, window - and
    where it puts the files."""
    with gr.Row(elem_id="stack-columns", elem_classes="columns"):
        with gr.Column(scale=2, min_width=260, elem_classes="side"):
            files = gr.File(
                file_count="multiple", label=word("stack"), height=140, elem_id="stack-upload", elem_classes="upload"
            )
            gr.Markdown(word("stack_formats"), elem_classes="formats")
            gallery = example_gallery(examples, elem_id="stack-examples")
            with gr.Accordion(word("options"), elem_classes="options"):
                precision, classes, min_score = common_options(answers, precisions)
                cut = gr.Dropdown([(word(f"cut.{name}"), name) for name in AXES], value="auto", label=word("cut"))
                window = gr.Dropdown(
                    [(word(f"window.{name}"), name) for name in WINDOWS], value="auto", label=word("window")
                )
        with gr.Column(scale=6, min_width=340, elem_id="stack-results", elem_classes="results"):
            status = gr.HTML("", elem_id="stack-status", elem_classes="status")
            cancel = gr.Button(word("cancel"), size="sm", elem_id="cancel", visible=False)
            view = viewer(elem_id="viewer")
            with gr.Tabs():
                with gr.Tab(word("montage")):
                    sheet = gr.Image(show_label=False, interactive=False, format="png", elem_id="montage",
                                     buttons=["download", "fullscreen"])  # fmt: skip
                with gr.Tab(word("surface")) as surface_tab:
                    model = gr.Model3D(show_label=False, interactive=False, elem_id="model", height=420)
                with gr.Tab(word("take_away")):
                    taken = gr.File(file_count="multiple", interactive=False, show_label=False, elem_id="stack-files")
                with gr.Tab(word("costs")):
                    costs = gr.HTML(elem_classes="timings")

    events = StackEvents(stacks, examples, taken.move_resource_to_block_cache)
    inputs = [files, precision, classes, min_score, cut, window]
    private = {"api_visibility": "private"}
    at_once = {"show_progress": "hidden", "queue": False, **private}
    cancel.click(events.stop, None, None, **at_once)
    gr.on([each.change for each in inputs], events.replace, inputs, None, **at_once)
    done = gr.on(
        [each.change for each in inputs], events.show, inputs, [status, view, sheet, costs, taken, cancel],
        trigger_mode="always_last", show_progress_on=status, **STACKS, **private,
    )  # fmt: skip
    # Not an output of `show`, a generator, whose last answer comes twice: Model3D forgets a model that comes again
    # while its viewer loads.
    done.then(events.surface, None, model, show_progress="hidden", **private)
    surface_tab.select(events.surface, None, model, show_progress="hidden", **private)
    gallery.select(events.choose, None, files, **private)
    page.load(events.begin, None, [classes, gallery, status], show_progress="hidden", **private)
    return inputs, taken
