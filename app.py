"""The page: upload an image, see what was found, correct it. Widgets and wiring only; page/ says what they show.

python app.py [--host 127.0.0.1] [--port 7860] [--weights embedded|DIR|user/repo[@revision]] [--examples DIR]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import gradio as gr

from hub import WeightsError
from page.answers import Answers
from page.api import Api, edits_parameter
from page.canvas import canvas
from page.events import Events, class_choices, pictures
from page.words import I18N, NOTICE, Words, word
from pipeline.errors import InputError
from pipeline.examples import Example, gather_examples
from pipeline.runtime import PRECISIONS, has_cuda

_PAGE = Path(__file__).parent / "page"
#: System fonts: nothing is fetched from elsewhere, so no one else learns that the page was opened.
_THEME = gr.themes.Default(
    primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
).set(body_text_color_subdued="*neutral_500", block_info_text_color="*neutral_500")
_LAUNCH = {
    "css_paths": [_PAGE / "page.css"], "head_paths": [_PAGE / "head.html"], "theme": _THEME, "i18n": I18N,
    "mcp_server": True, "ssr_mode": False, "max_file_size": "400mb", "run_history": False, "enable_monitoring": False,
}  # fmt: skip
_HOUR = 3600
#: How long the networks may take for one answer, and how many may wait for theirs.
_ANSWER_SECONDS, _QUEUE = 60, 40


def build_page(weights: str = "embedded", examples: list[Example] | None = None) -> gr.Blocks:
    """The page on a release of weights. Networks are loaded at their first use, once a precision, and kept.

    Raises
    ------
    hub.WeightsError
        Where the release can't be used.
    """
    examples = examples or []
    answers = Answers(weights, _ANSWER_SECONDS)
    precisions = answers.release.precisions
    # fp16 is made on demand; what else the release lacks could only be refused
    offered = [precision for precision in PRECISIONS if precision in (*precisions, "fp16")]

    with gr.Blocks(title="AutoMedSeg", analytics_enabled=False, delete_cache=(_HOUR, _HOUR)) as page:
        gr.Markdown(f"# AutoMedSeg\n{word('about')}", elem_id="title")
        with gr.Row(elem_id="columns"):  # on a phone they follow each other: page.css
            with gr.Column(scale=2, min_width=260, elem_id="side"):
                image = gr.File(label=word("image"), height=140, elem_id="upload")
                gallery = _gallery(examples)
                with gr.Accordion(word("options"), elem_id="options"):
                    precision = gr.Radio(
                        _choices(offered), value=precisions[0], label=word("precision"),
                        info=None if has_cuda() else word("no_fp16"),
                    )  # fmt: skip
                    classes = gr.CheckboxGroup(
                        class_choices(answers, Words()), value=list(answers.class_names.values()), label=word("classes")
                    )
                    min_score = gr.Slider(
                        0, 1, answers.own_score, step=0.01, label=word("min_score"), info=word("min_score_info")
                    )
            with gr.Column(scale=6, min_width=340, elem_id="results"):
                status = gr.HTML("", elem_id="status")
                surface = canvas(elem_id="canvas")
                with gr.Tabs():
                    with gr.Tab(word("costs")):
                        costs = gr.HTML(elem_id="timings")
                    with gr.Tab(word("take_away")):
                        make_files = gr.Button(word("make_files"), size="sm")
                        gr.Markdown(word("make_files_info"))
                        files = gr.File(file_count="multiple", interactive=False, show_label=False, elem_id="files")
                        lacking = gr.HTML("", elem_id="lacking")
                    with gr.Tab(word("compare")):
                        other = gr.Radio(_choices(offered), value=precisions[-1], label=word("compare_with"))
                        compare_them = gr.Button(word("compare_button"), size="sm")
                        both = gr.ImageSlider(label=word("slider"), interactive=False, format="png", elem_id="slider")
                        comparison = gr.HTML(elem_id="comparison")
                    with gr.Tab(word("record")):
                        show_json = gr.Button(word("show_json"), size="sm")
                        record = gr.JSON(show_label=False)
        gr.HTML(word("notice"), elem_id="notice")
        # Not gr.State, which keeps a connection open for each page: a browser has six for all of its tabs.
        runs, edits = gr.JSON(visible=False), gr.JSON([], visible=False)
        answered, asked_edits = gr.JSON(visible=False), edits_parameter()

        events, api = Events(answers, examples, files.move_resource_to_block_cache), Api(answers)
        # one at a time, because each answer uses all cores
        networks = {"concurrency_id": "networks", "concurrency_limit": 1}
        own = {"api_visibility": "private", **networks}
        inputs = [image, precision, classes, min_score]
        gr.on(
            [image.change, precision.change, classes.change, min_score.change], events.show, [*inputs, runs, edits],
            [status, surface, costs, record, files, both, comparison, runs, edits], trigger_mode="always_last", **own,
        )  # fmt: skip
        surface.edit(
            events.edit, [*inputs, runs], [status, surface, costs, record, files, edits],
            trigger_mode="multiple", show_progress="hidden", **own,
        )  # fmt: skip
        show_json.click(events.record, [*inputs, edits], record, **own)
        make_files.click(events.take_away, [*inputs, edits], [files, lacking], **own)
        two = [image, precision, other, classes, min_score]
        compare_them.click(events.side_by_side, two, [both, comparison], **own)
        gallery.select(events.choose, None, image, api_visibility="private")
        page.load(events.begin, None, [classes, gallery, status], api_visibility="private", show_progress="hidden")

        endpoints = {
            api.segment: inputs,
            api.correct: [image, asked_edits, precision, classes, min_score],
            api.compare: two,
        }
        for function, given in endpoints.items():
            gr.Button(visible=False).click(function, given, answered, api_name=function.__name__, **networks)
    return page.queue(max_size=_QUEUE, api_open=False)


def launch(page: gr.Blocks, **settings):
    """`Blocks.launch` with what this page needs: its looks and languages, MCP, the limit of an upload, no recording."""
    return page.launch(**{**_LAUNCH, **settings})


def _gallery(examples: list[Example]) -> gr.Gallery:
    return gr.Gallery(pictures(examples, Words()), label=word("examples"), columns=2,
                      height="auto", object_fit="contain", allow_preview=False, buttons=[], interactive=False,
                      format="png", elem_id="examples", visible=bool(examples))  # fmt: skip


def _choices(precisions: list[str]) -> list[tuple[str, str]]:
    return [(precision.upper(), precision) for precision in precisions]


def main() -> None:
    parser = argparse.ArgumentParser(description="The AutoMedSeg page.", epilog=NOTICE)
    parser.add_argument("--host", help="address to listen at (default: GRADIO_SERVER_NAME or 127.0.0.1)")
    parser.add_argument("--port", type=int, help="default: GRADIO_SERVER_PORT or the first free one from 7860")
    parser.add_argument("--weights", default="embedded", help="embedded (default), a folder, or user/repo[@revision]")
    parser.add_argument("--examples", type=Path, metavar="DIR", help="offer the images of this folder, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="automedseg-") as work:
        try:
            examples, refused = gather_examples(Path(work), arguments.examples)
            page = build_page(arguments.weights, examples)
        except (InputError, WeightsError) as error:
            parser.exit(2, f"{error}\n")
        for error in refused:
            print(error, file=sys.stderr)
        try:
            launch(page, server_name=arguments.host, server_port=arguments.port)
        except OSError as error:  # the port is taken, the address is not this machine's
            parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
