"""A volume's slices or a video's frames with the objects in them, to scroll through, and each object's area over them.

Written by hand in the browser's own means (`viewer/`): gradio's slider and image would ask the server for each slice,
and its LinePlot can't be linked with the slice that is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image

from page.canvas import JPEG_QUALITY, MOST_PIXELS, hex_colour
from page.words import TABLES, Words
from pipeline.measures import longest_diameter_mm, volume_ml
from pipeline.overlay import class_colour, ink_on
from pipeline.stack import Stack
from pipeline.tracks import Track, Tracking

_HERE = Path(__file__).parent
#: Pictures that a browser is given at most; of a longer stack it sees every second, third ... frame.
_MOST_FRAMES = 600
#: Of slices along each of the patient's axes: left, right, top, bottom as they are shown, mirrored to how they lie in
#: the stack, so that the patient's right side is at the left, as radiologists see it.
_SIDES = {0: "APSI", 1: "RLSI", 2: "RLAP"}


def viewer(**settings) -> gr.HTML:
    html, css, *scripts = (
        (_HERE / name).read_text("utf-8")
        for name in ("viewer/viewer.html", "viewer/viewer.css", "surface/mask.js", "viewer/viewer.js")
    )
    return gr.HTML({}, html_template=html, css_template=css, js_on_load="\n".join(scripts), apply_default_css=False,
                   words=TABLES, **settings)  # fmt: skip


def viewer_value(stack: Stack, found: Tracking, words: Words, folder: Path, keep: Callable[[Path], str]) -> dict:
    """What `viewer/` draws.

    Parameters
    ----------
    folder
        Where pictures may be put until they are kept.
    keep
        Moves a file to where the page may give it to its visitor, and tells where.
    """
    height, width = stack.size
    indices = list(range(0, len(stack), -(-len(stack) // _MOST_FRAMES)))
    row_mm, column_mm = stack.spacing_mm[1:] if stack.spacing_mm else (1.0, 1.0)
    volume = stack.kind == "volume"
    sides = _SIDES[stack.axis] if volume and stack.axis is not None and stack.grid is not None else "    "
    return {
        "kind": stack.kind,
        "count": len(stack),
        "indices": indices,
        "frames": [f"gradio_api/file={keep(_picture(stack, index, folder))}" for index in indices],
        "width": width,
        "height": height,
        "aspect": width * column_mm / (height * row_mm),
        "mirrored": volume,
        "sides": dict(zip(("left", "right", "top", "bottom"), sides, strict=True)),
        "seconds": stack.frame_seconds,
        "start": _nearest(indices, best_frame(found.tracks[0])) if found.tracks else len(indices) // 2,
        "area_unit": "mm2" if stack.spacing_mm else "px",
        "columns": [words(f"column_{name}") for name in _columns(stack)],
        "objects": [_object(stack, found, number, words) for number in range(len(found.tracks))],
    }


def best_frame(track: Track) -> int:
    """Where it is largest."""
    return max(track.rles, key=track.area_px)


def _columns(stack: Stack) -> list[str]:
    """What the table tells of each object: a volume's size, or how a video's area changes."""
    if stack.kind == "volume":
        return ["label", "score", "slices", *(["volume", "longest"] if stack.steps_mm is not None else ["largest_px"])]
    unit = "mm2" if stack.spacing_mm else "px"
    return ["label", "score", "frames", f"largest_{unit}", f"smallest_{unit}", "shrinks"]


def _object(stack: Stack, found: Tracking, number: int, words: Words) -> dict:
    track = found.tracks[number]
    colour = class_colour(track.class_id)
    pixel = stack.spacing_mm[1] * stack.spacing_mm[2] if stack.spacing_mm else 1.0
    areas = [round(track.area_px(index) * pixel, 1) for index in range(len(stack))]
    return {
        "number": number + 1,
        "colour": hex_colour(colour),
        "ink": ink_on(colour),
        "best": best_frame(track),
        "cells": [_cell(name, stack, found, number, areas, words) for name in _columns(stack)],
        "areas": areas,
        "masks": {str(index): _text(rle["counts"]) for index, rle in track.rles.items()},
    }


def _cell(column: str, stack: Stack, found: Tracking, number: int, areas: list[float], words: Words) -> str:
    track = found.tracks[number]
    match column:
        case "label":
            return words.label(track.label)
        case "score":
            return f"{track.score:.2f}"
        case "volume":
            return f"{volume_ml(found, number, stack.steps_mm):.2f}"
        case "longest":
            return f"{longest_diameter_mm(found, number, stack.steps_mm):.1f}"
        case "slices" | "frames":
            first, last = track.span
            return words("span", first=first, last=last)
    largest, smallest = max(areas), min(area for area in areas if area)
    if column == "shrinks":
        return f"{1 - smallest / largest:.0%}"
    return f"{largest if column.startswith('largest') else smallest:.0f}"


def _text(counts: bytes | str) -> str:
    return counts.decode("ascii") if isinstance(counts, bytes) else counts


def _picture(stack: Stack, index: int, folder: Path) -> Path:
    image = Image.fromarray(np.ascontiguousarray(stack.frames[index]))
    if max(image.size) > MOST_PIXELS:
        image.thumbnail((MOST_PIXELS, MOST_PIXELS))
    path = folder / f"{index:05d}.jpg"
    image.save(path, quality=JPEG_QUALITY, subsampling=0)
    return path


def _nearest(indices: list[int], frame: int) -> int:
    return min(range(len(indices)), key=lambda place: abs(indices[place] - frame))
