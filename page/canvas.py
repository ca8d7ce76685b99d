"""The image with its regions, to look at and to correct: a small drawing surface, and a table beside it.

Written by hand in the browser's own means (`surface/`), because gradio's AnnotatedImage tells no position of a click,
ImageEditor no box, and its opacity and its regions can't be switched without asking the server.
"""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image

from page.lasting_edits import Noted
from page.words import TABLES, Words
from pipeline.overlay import class_colour, ink_on
from pipeline.results import REGION_LABEL, Segmentation
from pipeline.rle import encode_mask

_SURFACE = Path(__file__).parent / "surface"
#: Together one script, in this order.
_SCRIPTS = ("mask.js", "canvas.js", "drawing.js", "correcting.js")
#: Longer side of what a browser is given; masks of small images are drawn finer than their pixels.
MOST_PIXELS, _LEAST_MASK = 1280, 768
JPEG_QUALITY = 95
#: Encoded masks that are kept, so that a correction encodes one region.
_KEPT_MASKS = 512
_kept: OrderedDict[bytes, str] = OrderedDict()
_lock = threading.Lock()


def canvas(**settings) -> gr.HTML:
    """The surface. A person triggers its `edit`; `event._data["edits"]` is then the whole list of edits as JSON.

    No class of its own, for which gradio would write a file of types beside this one.
    """
    html, css, *scripts = (
        (_SURFACE / name).read_text("utf-8") for name in ("canvas.html", "canvas.css", *_SCRIPTS)
    )  # fmt: skip
    return gr.HTML({}, html_template=html, css_template=css, js_on_load="\n".join(scripts), apply_default_css=False,
                   words=TABLES, **settings)  # fmt: skip


def canvas_value(
    pixels: np.ndarray | None,
    segmentation: Segmentation,
    record: dict,
    words: Words,
    class_names: dict[int, str],
    noted: Sequence[Noted] = (),
) -> dict:
    """What `surface/` draws.

    Parameters
    ----------
    pixels
        uint8 RGB (H, W, 3); None where the browser has them already.
    record
        The JSON of the same segmentation.
    class_names
        Id -> name of the weights' classes: what a region may be relabelled to, beside `region`.
    noted
        What led to `segmentation`; the surface sends it back with the next correction.
    """
    width, height = _grid(record["width"], record["height"])
    shown = segmentation.at_size(width, height)
    labels = [*class_names.values(), REGION_LABEL]
    return {
        "picture": "" if pixels is None else _data_url(pixels),
        "width": record["width"],
        "height": record["height"],
        "grid": [width, height],
        "labels": [[label, words.label(label)] for label in labels],
        "edits": [each.to_json() for each in noted],
        "regions": [_region(shown, segmentation, index, found) for index, found in enumerate(record["detections"])],
    }


def _region(shown: Segmentation, segmentation: Segmentation, index: int, found: dict) -> dict:
    colour = class_colour(found["class_id"])
    clicks = segmentation.clicks[index] if segmentation.is_corrected(index) else None
    points = zip(clicks.points, clicks.inside, strict=True) if clicks else ()
    return {
        "number": index + 1,
        "label": found["label"],
        "score": found["score"],
        "corrected": "corrected" in found,
        "box": found["box"],
        "iou": found["mask_iou"],
        "area_px": found["area_px"],
        "area_mm2": found["area_mm2"],
        "colour": hex_colour(colour),
        "ink": ink_on(colour),
        "clicks": [[x, y, inside] for (x, y), inside in points],
        "counts": _counts(shown, index),
    }


def hex_colour(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _counts(shown: Segmentation, index: int) -> str:
    """COCO's compressed RLE of one mask."""
    about = repr(shown.resize).encode() + shown.mask_logits[index].tobytes()
    key = hashlib.blake2b(about, digest_size=16).digest()
    with _lock:
        known = _kept.get(key)
    if known is None:
        known = encode_mask(shown.mask(index))["counts"].decode("ascii")
    with _lock:
        _kept[key] = known
        _kept.move_to_end(key)
        while len(_kept) > _KEPT_MASKS:
            _kept.popitem(last=False)
    return known


def _grid(width: int, height: int) -> tuple[int, int]:
    longest = max(width, height)
    scale = min(max(longest, _LEAST_MASK), MOST_PIXELS) / longest
    return max(1, round(width * scale)), max(1, round(height * scale))


def _data_url(pixels: np.ndarray) -> str:
    """The pixels alone, as JPEG: nothing of the file's own EXIF or header goes with them."""
    image = Image.fromarray(pixels)
    if max(image.size) > MOST_PIXELS:
        image = image.resize(_grid(*image.size), Image.Resampling.BILINEAR, reducing_gap=2)
    out = io.BytesIO()
    image.save(out, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")
