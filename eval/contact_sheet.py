"""A contact sheet: of each source the worst, the middling and the best images, ours beside the truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from eval.records import Record
from hub.files import replace_path
from pipeline import AutoSegmenter
from pipeline.datasets import Sample
from pipeline.overlay import draw_overlay, outline

_SIDE = 220
_TRUTH = (255, 255, 255)
#: Where in the order of Dice, from 0 for the worst to 1 for the best, and how many images from there.
_PLACES = {"worst": (0.0, 3), "middling": (0.5, 2), "best": (1.0, 2)}


def pick(records: list[Record]) -> list[Record]:
    """Of images with truth: the worst three, two about the middle, the best two; fewer where there are no more."""
    ordered = sorted((record for record in records if record.dice is not None), key=lambda r: (r.dice, r.sample))
    picked: dict[str, Record] = {}
    for place, count in _PLACES.values():
        first = round(place * (len(ordered) - count))
        picked |= {record.sample: record for record in ordered[max(0, first) : max(0, first) + count]}
    return list(picked.values())


def draw_sheet(records: list[Record], samples: Mapping[tuple[str, str], Sample], segment: AutoSegmenter) -> Image.Image:
    """RGB image: a line a source. Ours is filled in the class's colour, the true outline is white."""
    lines = []
    for source in dict.fromkeys(record.source for record in records):
        own = pick([record for record in records if record.source == source])
        lines.append([_tile(record, samples[record.key], segment) for record in own])
    sheet = Image.new("RGB", (_SIDE * max(map(len, lines), default=1), (_SIDE + 16) * max(1, len(lines))), "black")
    for row, tiles in enumerate(lines):
        for column, tile in enumerate(tiles):
            sheet.paste(tile, (column * _SIDE, row * (_SIDE + 16)))
    return sheet


def save_sheet(sheet: Image.Image, out: Path) -> None:
    with replace_path(out) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)


def _tile(record: Record, sample: Sample, segment: AutoSegmenter) -> Image.Image:
    pixels, regions = sample.load(every_pixel=True)
    found = segment(pixels)
    canvas = np.asarray(draw_overlay(pixels, found)).copy()
    thickness = max(1, round(max(pixels.shape) / 300))
    for region in regions:
        canvas[outline(region.mask, thickness)] = _TRUTH
    tile = Image.fromarray(canvas)
    tile.thumbnail((_SIDE - 4, _SIDE - 4), Image.Resampling.BOX)
    if max(tile.size) < _SIDE - 4:
        zoom = (_SIDE - 4) / max(tile.size)
        tile = tile.resize((round(tile.width * zoom), round(tile.height * zoom)), Image.Resampling.NEAREST)
    framed = Image.new("RGB", (_SIDE, _SIDE + 16), "black")
    framed.paste(tile, (2, 2))
    text = f"{record.dice:.2f} {record.sample}"
    ImageDraw.Draw(framed).text((3, _SIDE), text[:36], font=ImageFont.load_default(11), fill="white")
    return framed
