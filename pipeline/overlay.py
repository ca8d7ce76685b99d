"""Draw what was found on the image: a translucent fill, an outline and the label of each region, one colour a class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.results import Segmentation

#: Okabe and Ito, "Color Universal Design" (2008): told apart with every kind of colour blindness. Black is left out.
_OKABE_ITO = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
_DRAWN_BY_A_PERSON = 255
_FILL = 0.3
#: Rows that are drawn at once: a 12000x9000 image is never held in a wider type than uint8.
_BAND_ROWS = 512


def class_colour(class_id: int) -> tuple[int, int, int]:
    """RGB of a class, the same in every file and on the page; a box drawn by a person (255) is white."""
    if class_id == _DRAWN_BY_A_PERSON:
        return 255, 255, 255
    return _OKABE_ITO[(class_id - 1) % len(_OKABE_ITO)]


def ink_on(colour: tuple[int, int, int]) -> str:
    """The colour of a text that can be read on `colour`."""
    return "black" if sum(np.multiply(colour, (0.299, 0.587, 0.114))) > 110 else "white"


def label_map_image(segmentation: Segmentation) -> Image.Image:
    """Label map as a grey image: pixel values are the class ids, in every reader (a palette would become colours)."""
    return Image.fromarray(segmentation.label_map())


def draw_overlay(pixels: np.ndarray, segmentation: Segmentation) -> Image.Image:
    """uint8 RGB (H, W, 3) -> RGB image of the same size with every region drawn, surer ones on top."""
    height, width = segmentation.size
    thickness = _line_thickness(height, width)
    canvas = Image.new("RGB", (width, height))
    for first in range(0, height, _BAND_ROWS):
        last = min(first + _BAND_ROWS, height)
        band = pixels[first:last].copy()
        for index in segmentation.surest_last():
            fill, line = _fill_and_line(segmentation, index, first, last, thickness)
            colour = class_colour(int(segmentation.detections.class_ids[index]))
            _blend(band, fill, colour, _FILL)
            band[line] = colour
        canvas.paste(Image.fromarray(band), (0, first))
    _draw_labels(canvas, segmentation, thickness)
    return canvas


def draw_masks(pixels: np.ndarray, masks: Sequence[np.ndarray], class_ids: Sequence[int]) -> np.ndarray:
    """uint8 RGB (H, W, 3) with bool masks (H, W) filled and outlined in the colour of their class, the first on top."""
    drawn = pixels.copy()
    thickness = _line_thickness(*pixels.shape[:2])
    for mask, class_id in reversed(list(zip(masks, class_ids, strict=True))):
        colour = class_colour(class_id)
        _blend(drawn, mask, colour, _FILL)
        drawn[outline(mask, thickness)] = colour
    return drawn


def region_names(segmentation: Segmentation) -> list[str]:
    """What a region is called beside the image: its row in the list of detections and its label, '2 lung'."""
    return [f"{row} {label}" for row, label in enumerate(segmentation.labels, start=1)]


def layers(
    pixels: np.ndarray, segmentation: Segmentation, longest: int = 1280
) -> tuple[np.ndarray, list[tuple[np.ndarray, str]]]:
    """The image and one layer a region, shrunk so that the longer side is at most `longest` pixels, for a browser.

    Returns
    -------
    uint8 RGB (h, w, 3), and for each detection its opacity, float32 (h, w) in 0..1, and its name of `region_names`.
    """
    height, width = segmentation.size
    scale = min(1.0, longest / max(height, width))
    if scale < 1:
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2))
        segmentation = segmentation.at_size(width, height)
    found = []
    for index, name in enumerate(region_names(segmentation)):
        fill, line = _fill_and_line(segmentation, index, 0, height, _line_thickness(height, width))
        opacity = fill * np.float32(_FILL)
        opacity[line] = 1
        found.append((opacity, name))
    return pixels, found


def outline(mask: np.ndarray, thickness: int) -> np.ndarray:
    """The rim of a bool (H, W) mask: its pixels that have one outside it (or outside the image) within `thickness`."""
    inner = mask
    for axis in (0, 1):
        inner = _erode(inner, thickness, axis)
    return mask & ~inner


def _erode(mask: np.ndarray, radius: int, axis: int) -> np.ndarray:
    window, reached = 2 * radius + 1, 1
    margin = [(radius, radius) if a == axis else (0, 0) for a in (0, 1)]
    rows = np.moveaxis(np.pad(mask, margin), axis, 0)
    while reached < window:  # doubling: log2(window) passes rather than `window`
        step = min(reached, window - reached)
        rows = rows[:-step] & rows[step:]
        reached += step
    return np.moveaxis(rows, 0, axis)


def _fill_and_line(
    segmentation: Segmentation, index: int, first: int, last: int, thickness: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mask and rim of one region in the rows [first, last), bool both, seen with rows enough around for the rim."""
    above = max(0, first - thickness)
    inside = segmentation.mask(index, slice(above, min(segmentation.size[0], last + thickness)))
    rows = slice(first - above, last - above)
    if not inside.any():
        return inside[rows], inside[rows]
    return inside[rows], outline(inside, thickness)[rows]


def _blend(band: np.ndarray, inside: np.ndarray, colour: tuple[int, int, int], share: float) -> None:
    values = np.arange(256)
    for channel, aim in enumerate(colour):
        mixed = (values * (1 - share) + aim * share).round().astype(np.uint8)
        plane = band[..., channel]
        plane[inside] = mixed[plane[inside]]


def _line_thickness(height: int, width: int) -> int:
    return max(1, round(max(height, width) / 400))


def _draw_labels(canvas: Image.Image, segmentation: Segmentation, margin: int) -> None:
    """Each label at its box's upper left corner, moved down past the labels that are there already.

    Left out on an image that is too small for it: the text would hide what it names.
    """
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=max(11, round(max(canvas.size) / 45)))
    taken: list[tuple[float, float, float, float]] = []
    for index in segmentation.surest_last()[::-1]:
        detections = segmentation.detections
        sure = "corrected" if segmentation.is_corrected(index) else f"{detections.scores[index]:.2f}"
        text = f"{segmentation.labels[index]} {sure}"
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        width, height = right - left + 2 * margin + 2, bottom - top + 2 * margin + 2
        if width > canvas.width or height > canvas.height / 4:
            continue
        box = detections.boxes[index]
        x = min(max(0.0, float(box[0])), canvas.width - width)
        y = max(0.0, float(box[1]) - height)
        for other in sorted(taken, key=lambda rectangle: rectangle[1]):
            if x < other[2] and other[0] < x + width and y < other[3] and other[1] < y + height:
                y = other[3]
        y = min(y, canvas.height - height)
        taken.append((x, y, x + width, y + height))
        colour = class_colour(int(detections.class_ids[index]))
        draw.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
        draw.text((x + margin + 1 - left, y + margin + 1 - top), text, font=font, fill=ink_on(colour))
