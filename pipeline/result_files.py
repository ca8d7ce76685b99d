"""The three files of an image: its label map, its overlay and its JSON."""

from __future__ import annotations

import json
from pathlib import Path, PurePath

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hub.files import replace_file
from pipeline.errors import InputError
from pipeline.overlay import draw_overlay, label_map_image
from pipeline.results import Segmentation

#: zlib's effort, 0..9. Higher ones make a 12000x9000 overlay a few per cent smaller in several times the time.
_COMPRESS_LEVEL = 2


def result_paths(folder: Path, name: PurePath) -> tuple[Path, Path, Path]:
    """Where `write_result_files` puts label map, overlay and JSON."""
    stem = folder / name
    return tuple(stem.with_name(stem.name + end) for end in ("_mask.png", "_overlay.png", ".json"))


def write_result_files(folder: Path, name: PurePath, file: str, pixels: np.ndarray, segmentation: Segmentation) -> None:
    """Write `<name>_mask.png`, `<name>_overlay.png` and `<name>.json` below `folder`, which is made where it lacks.

    Each file appears whole or not at all. The JSON is last: where it stands, the image is done. Where a person
    corrected something the JSON says what, and both PNGs name it in their text `Comment`.

    Parameters
    ----------
    name
        The stem, with the folder that keeps it apart from others of the same stem: `scan` or `left/scan`.
    file
        The input as the user named it, for the JSON.
    pixels
        uint8 RGB (H, W, 3), the image that was segmented.

    Raises
    ------
    InputError
        Where the folder can't be made or written to, or the disk is full.
    """
    mask, overlay, record = result_paths(folder, name)
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        _write_png(mask, label_map_image(segmentation), segmentation.note)
        _write_png(overlay, draw_overlay(pixels, segmentation), segmentation.note)
        with replace_file(record) as out:
            out.write(json.dumps(segmentation.to_json(file), indent=1) + "\n")
    except OSError as error:
        raise unwritable(record.parent, error) from error


def unwritable(folder: Path, error: OSError) -> InputError:
    return InputError(folder, f"can't be written to ({error.strerror or error})", "a folder with write permission")


def _write_png(path: Path, image: Image.Image, comment: str | None) -> None:
    text = PngInfo()
    if comment:
        text.add_text("Comment", comment)
    with replace_file(path, "wb") as out:
        image.save(out, format="PNG", compress_level=_COMPRESS_LEVEL, pnginfo=text)
