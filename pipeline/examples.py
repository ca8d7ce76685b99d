"""What the page offers to try: drawn phantoms, real scans that come with pydicom, and a folder of the user's."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pipeline.errors import InputError
from pipeline.inputs import find_scans
from pipeline.phantoms import write_phantoms, write_stack_phantoms
from pipeline.scan import read_scan
from pipeline.stack import read_stack

_THUMBNAIL = 160
#: Of a folder; more would push the page's other parts out of sight.
_MOST = 20
#: Real scans inside of pydicom's package, which it says are free to use. None shows a class of the weights: finding
#: nothing, and saying that an image is unlike all that is known, are results to try, too.
_OF_PYDICOM = {
    "examples_overlay.dcm": "Real MRI of the abdomen: no known class",
    "J2K_pixelrep_mismatch.dcm": "Real CT of the head: no known class",
}


_STACKS_OF_PYDICOM = {"examples_ybr_color.dcm": "Real ultrasound video: no known class"}


@dataclass(frozen=True)
class Example:
    """A file to segment, a small RGB picture of it and its caption."""

    path: Path
    picture: Image.Image
    caption: str


def gather_examples(work: Path, folder: Path | None = None) -> tuple[list[Example], list[InputError]]:
    """Phantoms, pydicom's scans, then the first images of `folder`, all copied into `work`: the page never serves the
    folder itself.

    Returns
    -------
    The examples, and what could not be read in `folder`.

    Raises
    ------
    InputError
        Where `folder` is none.
    """
    if folder is not None and not folder.is_dir():
        raise InputError(folder, "no such folder", "a folder of images to offer as examples")
    examples = [Example(path, _picture(path), caption) for path, caption in write_phantoms(work)]
    examples += [Example(path, _picture(path), caption) for path, caption in _copies(_OF_PYDICOM, work)]
    found, refused = find_scans([str(folder)]) if folder else ([], [])
    for number, path in enumerate(found[:_MOST]):
        try:
            picture = _picture(path)
        except InputError as error:
            refused.append(error)
            continue
        copy = work / str(number) / path.name
        copy.parent.mkdir()
        shutil.copyfile(path, copy)
        examples.append(Example(copy, picture, path.name))
    return examples, refused


def gather_stack_examples(work: Path) -> list[Example]:
    """A volume and a video that are drawn, and a real ultrasound video that comes with pydicom."""
    found = [*write_stack_phantoms(work), *_copies(_STACKS_OF_PYDICOM, work)]
    return [Example(path, _middle(path), caption) for path, caption in found]


def _middle(path: Path) -> Image.Image:
    stack = read_stack(path)
    middle = stack.pixels(len(stack) // 2)
    picture = Image.fromarray(middle[:, ::-1] if stack.kind == "volume" else middle)  # as radiologists see it
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return picture


def _copies(names: dict[str, str], work: Path) -> list[tuple[Path, str]]:
    from pydicom.data import get_testdata_file  # imported here: who segments a PNG needs no pydicom

    copies = []
    for name, caption in names.items():
        source = get_testdata_file(name, download=False)
        if source:  # Debian's package, for one, comes without them
            copies.append((work / name, caption))
            shutil.copyfile(source, work / name)
    return copies


def _picture(path: Path) -> Image.Image:
    picture = Image.fromarray(read_scan(path).pixels)
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return picture
