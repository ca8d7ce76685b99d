"""COCO's run lengths of a mask, as they are written and as others write them."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco_mask

from pipeline.errors import InputError

#: Bits of a run that are read at most; a longer one is longer than any image.
_MOST_BITS = 40


def encode_mask(mask: np.ndarray) -> dict:
    """bool (H, W) -> COCO RLE, {"size": [H, W], "counts": bytes}."""
    return coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))


def decode_mask(rle: object, width: int, height: int, subject: str) -> np.ndarray:
    """COCO RLE from a JSON file -> bool (H, W).

    Parameters
    ----------
    rle
        {"size": [H, W], "counts": ...}, compressed (text) or not (a list of numbers); may hold anything.
    subject
        What an error names.

    Raises
    ------
    InputError
        Where it is of another size, or its runs do not add up to the image's pixels.
    """
    if not isinstance(rle, dict):
        raise InputError(subject, f"a mask that is a {type(rle).__name__}", "COCO run lengths")
    size, counts = rle.get("size"), rle.get("counts")
    if size != [height, width]:
        found = repr(size) if isinstance(size, list) and len(repr(size)) < 40 else type(size).__name__
        raise InputError(subject, f"mask of size {found}", f"[{height}, {width}], height and width of its image")
    if isinstance(counts, str):
        counts = _runs_of_text(counts)
    # pycocotools leaves pixels unset where the runs end too early, so they are expanded here
    good = isinstance(counts, list) and all(type(run) is int and run >= 0 for run in counts)
    if not good or sum(counts) != height * width:
        raise InputError(subject, "broken run lengths", f"counts that add up to {height * width} pixels")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def _runs_of_text(text: str) -> list[int] | None:
    """COCO's compressed counts: 5 bits a character from '0' on, the sixth says that more follow; from the fourth run on
    each is the difference to the last but one of its kind (pycocotools `rleFrString`)."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > _MOST_BITS:
            return None
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return None if shift else runs
