"""The page: upload an image, see what was found, correct it. Widgets and wiring only; page/ says what they show.

python app.py [--host 127.0.0.1] [--port 7860] [--weights embedded|DIR|user/repo[@revision]] [--examples DIR]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import gradio as gr
from starlette.requests import ClientDisconnect

from hub import WeightsError
from page.allocator import keep_small
from page.answers import Answers
from page.api import Api, edits_parameter
from page.image_tab import NETWORKS, image_tab
from page.stack_tab import STACKS, stack_tab
from page.stacks import Stacks
from page.visitors import left
from page.words import HEAD, I18N, word
from pipeline.errors import InputError
from pipeline.examples import Example, gather_examples, gather_stack_examples
from pipeline.results import NOTICE
from pipeline.runtime import PRECISIONS

_PAGE = Path(__file__).parent / "page"
#: System fonts: nothing is fetched from elsewhere, so no one else learns that the page was opened.
_THEME = gr.themes.Default(
    primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
).set(body_text_color_subdued="*neutral_500", block_info_text_color="*neutral_500")
_LAUNCH = {
    "css_paths": [_PAGE / "page.css"], "head": HEAD, "head_paths": [_PAGE / "head.html"],
    "theme": _THEME, "i18n": I18N,
    "mcp_server": True, "ssr_mode": False, "max_file_size": "400mb", "run_history": False, "enable_monitoring": False,
    # 120 KB each: gradio's own ten thousand would be more than a gigabyte
    "state_session_capacity": 256,
    "app_kwargs": {"exception_handlers": {ClientDisconnect: left}},
}  # fmt: skip
_HOUR = 3600
#: How long the networks may take for an image and for a stack, and how many may wait for an answer.
_ANSWER_SECONDS, _STACK_SECONDS, _QUEUE = 60, 600, 40


def build_page(
    weights: str = "embedded", examples: list[Example] | None = None, stack_examples: list[Example] | None = None
) -> gr.Blocks:
    """The page on a release of weights. Networks are loaded at their first use, once a precision, and kept.

    Raises
    ------
    hub.WeightsError
        Where the release can't be used.
    """
    examples, stack_examples = examples or [], stack_examples or []
    answers = Answers(weights, _ANSWER_SECONDS)
    stacks = Stacks(answers, _STACK_SECONDS)
    precisions = answers.release.precisions
    # fp16 is made on demand; what else the release lacks could only be refused
    offered = [precision for precision in PRECISIONS if precision in (*precisions, "fp16")]

    with gr.Blocks(title="AutoMedSeg", analytics_enabled=False, delete_cache=(_HOUR, _HOUR)) as page:
        gr.Markdown(f"# AutoMedSeg\n{word('about')}", elem_id="title")
        with gr.Tabs():
            with gr.Tab(word("tab_image")):
                inputs, other = image_tab(page, answers, examples, offered)
            with gr.Tab(word("tab_stack")):
                stack_inputs, stack_files = stack_tab(page, answers, stacks, stack_examples, list(precisions))
        gr.HTML(word("notice"), elem_id="notice")
        answered, answered_files = gr.JSON(visible=False), gr.File(file_count="multiple", visible=False)
        asked_edits = edits_parameter()
        api = Api(answers, stacks, stack_files.move_resource_to_block_cache)
        image, *options = inputs
        precision, *rest = options
        endpoints = {
            api.segment: (inputs, answered, NETWORKS),
            api.correct: ([image, asked_edits, *options], answered, NETWORKS),
            api.compare: ([image, precision, other, *rest], answered, NETWORKS),
            api.segment_stack: (stack_inputs, [answered, answered_files], STACKS),
        }
        for function, (given, answer, limits) in endpoints.items():
            gr.Button(visible=False).click(function, given, answer, api_name=function.__name__, **limits)
    return page.queue(max_size=_QUEUE, api_open=False)


def launch(page: gr.Blocks, **settings):
    """`Blocks.launch` with what this page needs: its looks and languages, MCP, the limit of an upload, no recording."""
    return page.launch(**{**_LAUNCH, **settings})


def main() -> None:
    parser = argparse.ArgumentParser(description="The AutoMedSeg page.", epilog=NOTICE)
    parser.add_argument("--host", help="address to listen at (default: GRADIO_SERVER_NAME or 127.0.0.1)")
    parser.add_argument("--port", type=int, help="default: GRADIO_SERVER_PORT or the first free one from 7860")
    parser.add_argument("--weights", default="embedded", help="embedded (default), a folder, or user/repo[@revision]")
    parser.add_argument("--examples", type=Path, metavar="DIR", help="offer the images of this folder, too")
    arguments = parser.parse_args()
    keep_small()
    with tempfile.TemporaryDirectory(prefix="automedseg-") as work:
        try:
            examples, refused = gather_examples(Path(work), arguments.examples)
            page = build_page(arguments.weights, examples, gather_stack_examples(Path(work)))
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
