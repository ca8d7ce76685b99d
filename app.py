"""The page: upload an image, see what was found. Widgets and wiring only; what it shows comes from pipeline/.

python app.py [--host 127.0.0.1] [--port 7860] [--weights embedded|DIR|user/repo[@revision]] [--examples DIR]
"""

from __future__ import annotations

import argparse
import functools
import html
import sys
import tempfile
from pathlib import Path

import gradio as gr
import numpy as np

from hub import WeightsError, resolve
from page.comparison import compare
from page.costs import costs_html
from page.take_away import write_take_away
from pipeline import AutoSegmenter
from pipeline.errors import InputError
from pipeline.examples import Example, gather_examples
from pipeline.overlay import class_colour, draw_overlay, layers, region_names
from pipeline.results import OUT_OF_SCOPE, Segmentation
from pipeline.segment_files import segment_file

NOTICE = "Research software, not a medical device."
_TABLE = {"": "number", "label": "str", "score": "number", "box [x, y, w, h]": "str", "predicted IoU": "number",
          "area px": "number", "area mm²": "str"}  # fmt: skip
_CSS = """
#notice { position: fixed; bottom: 0; left: 0; right: 0; z-index: 50; border-radius: 0; border-width: 0;
          text-align: center; background: #7a3b00; font-size: 14px; }
#notice .html-container { padding: 5px; }
#notice .prose { color: #fff; }
footer { padding-bottom: 36px; }
#status .refused, #status .strange { border-left: 4px solid #d55e00; padding: 8px 12px; overflow-wrap: anywhere;
                   background: rgba(213, 94, 0, 0.12); }
#examples .grid-wrap { min-height: 0; max-height: 60vh; }
#examples .caption-label { left: 0; right: 0; bottom: 0; max-width: 100%; padding: 2px 4px; white-space: normal;
                           font-size: 11px; line-height: 1.3; text-align: center; border-radius: 0; }
#overlay .image-container:not(:fullscreen) img { max-height: 75vh; object-fit: contain; }
#timings table { width: 100%; font-size: 12px; border: 0 !important; }
#timings caption { text-align: left; padding-top: 8px; }
#timings :is(th, td) { padding: 2px 5px; border: 0 !important; text-align: left; }
#timings :is(th, td) { overflow-wrap: normal; word-break: normal; }
#timings :is(th, .ms) { width: 1%; white-space: nowrap; }
#timings .ms { text-align: right; font-variant-numeric: tabular-nums; }
#timings .bar { height: 10px; min-width: 1px; background: #0072b2; }
.dark #timings .bar { background: #56b4e9; }
#slider .image-container { max-height: 75vh; }
@media (max-width: 640px) { #examples .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)); } }
"""
#: System fonts: nothing is fetched from elsewhere, so no one else learns that the page was opened.
_THEME = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
_LAUNCH = {"css": _CSS, "theme": _THEME, "max_file_size": "400mb", "run_history": False, "enable_monitoring": False}
_HOUR = 3600


def build_page(weights: str = "embedded", examples: list[Example] | None = None) -> gr.Blocks:
    """The page on a release of weights. Networks are loaded at their first use, once a precision, and kept.

    Raises
    ------
    hub.WeightsError
        Where the release can't be used.
    """
    examples = examples or []
    release = resolve(weights)
    names = [entry["name"] for entry in release.config["classes"]]
    own_score = release.config["detector"]["score_threshold"]

    @functools.cache
    def segmenter(precision: str) -> AutoSegmenter:
        return AutoSegmenter.from_release(weights, precision)

    def run_with(chosen: AutoSegmenter, image: str, classes: list[str], min_score: float):
        try:
            return segment_file(
                chosen,
                Path(image),
                classes=None if set(classes) == set(names) else classes,
                # Where the slider was not moved the release's thresholds hold, which may differ from class to class.
                min_score=None if min_score == own_score else min_score,
            )
        except InputError as error:  # its subject is where the upload lies: of no use to the reader
            raise InputError(Path(error.subject).name, error.problem, error.expected) from error

    def run(image: str, precision: str, classes: list[str], min_score: float):
        return run_with(segmenter(precision), image, classes, min_score)

    def run_both(image: str, precision: str, other: str, classes: list[str], min_score: float):
        both = segmenter(precision), segmenter(other)
        return compare(Path(image), both, lambda chosen, path: run_with(chosen, str(path), classes, min_score))

    def show(image: str | None, precision: str, classes: list[str], min_score: float, runs: dict | None):
        if image is None:
            return "", None, [], "", None, None, None, "", None
        seen = runs["times"] if runs and runs["image"] == image else {}
        try:
            if precision not in seen:  # a run that took a kept embedding would pass for a faster precision
                segmenter(precision).forget_embeddings()
            scan, segmentation = run(image, precision, classes, min_score)
        except (InputError, WeightsError) as error:
            return _refused(error), None, [], "", None, None, None, "", None
        pixels, regions = layers(scan.pixels, segmentation)
        coloured = gr.AnnotatedImage(value=(pixels, regions), color_map=_colours(segmentation))
        record = segmentation.to_json(Path(image).name)
        seen = {**seen, precision: seen.get(precision, record["timings_ms"])}
        costs = costs_html(record["timings_ms"], release.manifest["precisions"][precision]["bytes"], seen)
        runs = {"image": image, "times": seen}
        return _status(segmentation), coloured, _rows(record), costs, None, None, None, "", runs

    def segment(image: str | None, precision: str, classes: list[str], min_score: float):
        """Find and outline regions in one image. Research software, not a medical device.

        Parameters:
            image: PNG, JPEG, TIFF, DICOM or 2-D NIfTI file.
            precision: of the networks, "int8" or "fp32".
            classes: names of the classes to look for; all where it is left out.
            min_score: least score of a region, 0..1; the release's own thresholds where it is left out.

        Returns:
            What `python -m pipeline segment` writes as JSON: boxes are [x, y, width, height], masks COCO RLE.
        """
        if image is None:
            raise gr.Error("No image; upload one first.", print_exception=False)
        try:
            _, segmentation = run(image, precision, classes, min_score)
        except (InputError, WeightsError) as error:
            raise gr.Error(html.escape(str(error), quote=False), print_exception=False) from error
        return segmentation.to_json(Path(image).name)

    def take_away(image: str | None, precision: str, classes: list[str], min_score: float) -> list[str] | None:
        if image is None:
            return None
        try:
            scan, segmentation = run(image, precision, classes, min_score)
            with tempfile.TemporaryDirectory() as folder:
                written = write_take_away(Path(folder), scan, segmentation, segmenter(precision).class_names)
                return [files.move_resource_to_block_cache(path) for path in written]
        except (InputError, WeightsError) as error:
            raise gr.Error(html.escape(str(error), quote=False), print_exception=False) from error

    def show_both(image: str | None, precision: str, other: str, classes: list[str], min_score: float):
        if image is None:
            return None, ""
        try:
            scan, answers, facts = run_both(image, precision, other, classes, min_score)
        except (InputError, WeightsError) as error:
            return None, _refused(error)
        pictures = tuple(draw_overlay(*_for_display(scan.pixels, answer)) for answer in answers)
        return pictures, _comparison(facts)

    def compare_precisions(image: str, precision: str, other: str, classes: list[str], min_score: float):
        """Segment one image in two precisions and compare. Research software, not a medical device.

        Parameters:
            image: PNG, JPEG, TIFF, DICOM or 2-D NIfTI file.
            precision: of the first run, "int8" or "fp32".
            other: precision of the second run.
            classes: names of the classes to look for; all where it is left out.
            min_score: least score of a region, 0..1; the release's own thresholds where it is left out.

        Returns:
            Dice between the two for each class and its mean, the second's time over the first's (speed_ratio), and
            both precisions' bytes of weights and timings in milliseconds.
        """
        if image is None:
            raise gr.Error("No image; upload one first.", print_exception=False)
        try:
            return run_both(image, precision, other, classes, min_score)[2]
        except (InputError, WeightsError) as error:
            raise gr.Error(html.escape(str(error), quote=False), print_exception=False) from error

    def choose(event: gr.SelectData) -> str:
        return str(examples[event.index].path)

    with gr.Blocks(title="AutoMedSeg", analytics_enabled=False, delete_cache=(_HOUR, _HOUR)) as page:
        gr.Markdown(
            "# AutoMedSeg\nFinds and outlines regions in a medical image (PNG, JPEG, TIFF, DICOM or 2-D NIfTI), "
            "without any prompt."
        )
        with gr.Row():  # on a phone the three columns follow each other
            with gr.Column(scale=2, min_width=240):
                image = gr.File(label="Image", height=140)
                gallery = _gallery(examples)
            with gr.Column(scale=5, min_width=340):
                status = gr.HTML("", elem_id="status")
                overlay = gr.AnnotatedImage(label="Regions", format="png", elem_id="overlay")
                table = gr.Dataframe(label="Detections", headers=list(_TABLE), datatype=list(_TABLE.values()),
                                     interactive=False, elem_id="detections")  # fmt: skip
                timings = gr.HTML(elem_id="timings")
                with gr.Accordion("Files to take away", open=False):
                    make_files = gr.Button("Make the files", size="sm")
                    files = gr.File(file_count="multiple", interactive=False, show_label=False, elem_id="files")
                with gr.Accordion("Compare precisions", open=False):
                    other = gr.Radio(_precisions(release.precisions), value=release.precisions[-1], label="With")
                    compare_them = gr.Button("Compare", size="sm")
                    both = gr.ImageSlider(label="Left: the chosen precision; right: the other", interactive=False,
                                          format="png", elem_id="slider")  # fmt: skip
                    comparison = gr.HTML(elem_id="comparison")
                with gr.Accordion("JSON of the command line", open=False):
                    show_json = gr.Button("Show", size="sm")
                    record = gr.JSON(show_label=False)
            with gr.Column(scale=2, min_width=240):
                precision = gr.Radio(_precisions(release.precisions), value=release.precisions[0], label="Precision")
                classes = gr.CheckboxGroup(names, value=names, label="Classes")
                min_score = gr.Slider(0, 1, own_score, step=0.01, label="Minimum score",
                                      info="Where it starts, each class has its own threshold.")  # fmt: skip
        gr.HTML(NOTICE, elem_id="notice")
        # Not gr.State, which keeps a connection open for each page: a browser has six for all of its tabs.
        runs, compared = gr.JSON(visible=False), gr.JSON(visible=False)

        inputs = [image, precision, classes, min_score]
        gr.on(
            [image.change, precision.change, classes.change, min_score.change],
            show, [*inputs, runs], [status, overlay, table, timings, record, files, both, comparison, runs],
            trigger_mode="always_last", api_visibility="private", concurrency_id="networks", concurrency_limit=1,
        )  # fmt: skip
        show_json.click(segment, inputs, record, api_name="segment", concurrency_id="networks", concurrency_limit=1)
        two = [image, precision, other, classes, min_score]
        compare_them.click(show_both, two, [both, comparison], api_visibility="private",
                           concurrency_id="networks", concurrency_limit=1)  # fmt: skip
        gr.Button(visible=False).click(compare_precisions, two, compared, api_name="compare",
                                       concurrency_id="networks", concurrency_limit=1)  # fmt: skip
        make_files.click(take_away, inputs, files, api_visibility="private",
                         concurrency_id="networks", concurrency_limit=1)  # fmt: skip
        gallery.select(choose, None, image, api_visibility="private")
    return page.queue(max_size=40, api_open=False)


def launch(page: gr.Blocks, **settings):
    """`Blocks.launch` with what this page needs: its looks, the limit of an upload, nothing recorded."""
    return page.launch(**{**_LAUNCH, **settings})


def _gallery(examples: list[Example]) -> gr.Gallery:
    return gr.Gallery([(example.picture, example.caption) for example in examples], label="Examples", columns=2,
                      height="auto", object_fit="contain", allow_preview=False, buttons=[], interactive=False,
                      format="png", elem_id="examples", visible=bool(examples))  # fmt: skip


def _colours(segmentation: Segmentation) -> dict[str, str]:
    """Of each region's name, `#rrggbb` as its class has in the overlay."""
    ids = segmentation.detections.class_ids
    colours = ["#{:02x}{:02x}{:02x}".format(*class_colour(int(class_id))) for class_id in ids]
    return dict(zip(region_names(segmentation), colours, strict=True))


def _precisions(available: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(precision.upper(), precision) for precision in available]


def _status(segmentation: Segmentation) -> str:
    """What was found, and whether to mistrust it."""
    if not segmentation.out_of_scope:
        return _count(segmentation)
    return f'{_count(segmentation)}<div class="strange" role="alert">{OUT_OF_SCOPE}</div>'


def _count(segmentation: Segmentation) -> str:
    match len(segmentation):
        case 0:
            return "Nothing found."
        case 1:
            return "1 region found."
        case count:
            return f"{count} regions found."


def _rows(record: dict) -> list[list]:
    return [
        [row, found["label"], found["score"], ", ".join(f"{value:.0f}" for value in found["box"]), found["mask_iou"],
         found["area_px"], "" if found["area_mm2"] is None else f"{found['area_mm2']:.1f}"]
        for row, found in enumerate(record["detections"], start=1)
    ]  # fmt: skip


def _refused(error: Exception) -> str:
    return f'<div class="refused" role="alert">{html.escape(str(error))}</div>'


def _for_display(pixels: np.ndarray, segmentation: Segmentation) -> tuple[np.ndarray, Segmentation]:
    """Image and regions, shrunk to what a browser needs."""
    shrunk, _ = layers(pixels, segmentation)
    return shrunk, segmentation.at_size(shrunk.shape[1], shrunk.shape[0])


def _comparison(facts: dict) -> str:
    first, second = (precision.upper() for precision in facts["precisions"])
    dice = [f"<li>Dice of {html.escape(name)}: {value:.3f}</li>" for name, value in facts["dice"].items()]
    a, b = facts["weights_bytes"]
    return (
        f"<ul>{''.join(dice) or '<li>Neither found anything.</li>'}"
        f"<li>{second} takes {facts['speed_ratio']:.2f} times as long as {first}"
        f" ({facts['timings_ms'][1]['total']:.0f} and {facts['timings_ms'][0]['total']:.0f} ms)</li>"
        f"<li>Weights: {first} {a / 1e6:.0f} MB, {second} {b / 1e6:.0f} MB</li></ul>"
    )


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
