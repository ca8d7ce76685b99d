"""Draw what was found on the slices of a volume, as a contact sheet, and on the frames of a video, as an MP4."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.overlay import draw_masks
from pipeline.stack import Stack
from pipeline.tracks import Tracking

#: Slices on a contact sheet at most, how many side by side, and the longer side of one in pixels.
_SHEET_SLICES, _SHEET_COLUMNS, _SHEET_TILE = 24, 6, 256
#: Pixels of a video's longer side at most: what H.264 players show, and encoders refuse far larger ones.
_LONGEST_SIDE = 4096
#: Frames a second of a video that does not say how long its frames last.
_USUAL_RATE = 10
_FONT = 11


def draw_frame(stack: Stack, tracking: Tracking, index: int) -> np.ndarray:
    """uint8 RGB (H, W, 3): frame `index` with every object filled and outlined, surer ones on top."""
    tracks = tracking.in_frame(index)
    masks = [tracking.mask(track, index) for track in tracks]
    return draw_masks(stack.pixels(index), masks, [tracking.tracks[track].class_id for track in tracks])


def contact_sheet(stack: Stack, tracking: Tracking, mirrored: bool = False) -> Image.Image:
    """Up to 24 slices, evenly chosen from where objects are (from all, where there is none), with their numbers.

    `mirrored` shows each as radiologists do, the patient's right side at the left.
    Slices are as wide and high as in the patient, not as in the file. Numbers count from 0, as in the JSON.
    """
    spans = [track.span for track in tracking.tracks] or [(0, len(stack) - 1)]
    first, last = min(span[0] for span in spans), max(span[1] for span in spans)
    indices = np.unique(np.linspace(first, last, min(_SHEET_SLICES, last - first + 1)).round().astype(int)).tolist()
    width, height = _tile_size(stack)
    columns = min(_SHEET_COLUMNS, len(indices))
    sheet = Image.new("RGB", (columns * width, math.ceil(len(indices) / columns) * height))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=_FONT)
    for place, index in enumerate(indices):
        drawn = draw_frame(stack, tracking, index)[:, :: -1 if mirrored else 1]
        tile = Image.fromarray(drawn).resize((width, height), Image.Resampling.BILINEAR)
        corner = place % columns * width, place // columns * height
        sheet.paste(tile, corner)
        draw.text(
            (corner[0] + 3, corner[1] + 1), str(index), font=font, fill="white", stroke_width=1, stroke_fill="black"
        )
    return sheet


def write_overlay_video(
    path: Path, stack: Stack, tracking: Tracking, progress: Callable[[int, int], None] | None = None
) -> None:
    """An MP4 of every frame with what was found drawn on it: H.264 where FFmpeg has it, else MPEG-4.

    Sides of an odd length get one more row or column, which both codecs ask for; frames of a longer side than 4096
    pixels are shrunk to that.
    """
    scale = min(1, _LONGEST_SIDE / max(stack.size))
    height, width = (max(1, round(side * scale)) for side in stack.size)
    seconds = stack.frame_seconds
    rate = Fraction(1 / seconds).limit_denominator(1001) if seconds else Fraction(_USUAL_RATE)
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream(codec, rate=max(rate, Fraction(1, 10)))
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        stream.thread_count = 2
        for index in range(len(stack)):
            drawn = draw_frame(stack, tracking, index)
            if scale < 1:
                drawn = np.asarray(Image.fromarray(drawn).resize((width, height), Image.Resampling.BILINEAR))
            drawn = np.pad(drawn, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(drawn, "rgb24")))
            if progress:
                progress(index + 1, len(stack))
        container.mux(stream.encode())


def _tile_size(stack: Stack) -> tuple[int, int]:
    """(width, height) of a slice on the contact sheet."""
    height, width = stack.size
    if stack.kind == "volume" and stack.spacing_mm:
        height, width = height * stack.spacing_mm[1], width * stack.spacing_mm[2]
    scale = _SHEET_TILE / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))
