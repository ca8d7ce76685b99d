"""`python -m pipeline features`: what a release's two large networks make of many images, computed once.

It is the dear part of training what is small.

The mask decoder learns on what it will be given: the detector's own boxes and the encoder's own embedding, as the
release's ONNX graphs compute them. A view is one image under a random zoom, shift, mirror and change of intensity; an
image may have several. Where the release looks at the surroundings of boxes alone, so does a part of the views, with
random surroundings of a random region or of what the detector found.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from hub.files import replace_file
from hub.release import Release
from hub.resolve import resolve
from pipeline.detector import PROPOSALS, Detector
from pipeline.errors import InputError
from pipeline.geometry import Resize, box_of_mask
from pipeline.segmenter import Segmenter
from pipeline.training.augment import place, random_placement, vary_intensity
from pipeline.training.config import read_object
from pipeline.training.prepared import PreparedImage, PreparedSplit, parse_by_source

#: Regions kept a view, the largest.
REGIONS = 6
#: Zoom of a view, relative to the whole image.
_SCALES = (0.8, 1.3)
#: Share of views that show the image as it is.
_PLAIN = 0.3
#: Of a release that looks at surroundings: share of views of the whole image, and how much the surroundings vary.
_WHOLE, _FACTORS = 0.3, (0.7, 1.5)
#: A region of which less is in the view is none of it.
_LEAST_SHOWN = 0.3
_SAVED_EVERY = 50
_ABOUT = "features.json"
_EXPECTED = "a folder that `python -m pipeline features` wrote"


@dataclass(frozen=True)
class View:
    """One view, before the networks see it.

    Attributes
    ----------
    pixels : uint8 (H, W, 3)
    masks : bool (R, H, W), the regions that are visible in it
    class_index : int64 (R,)
    """

    pixels: np.ndarray
    masks: np.ndarray
    class_index: np.ndarray


def view_of(image: PreparedImage, rng: np.random.Generator | None, other_devices: float = 0.0) -> View:
    """An image, cut out of its canvas; with `rng` zoomed, shifted, mirrored and changed in intensity, a share of
    `other_devices` as if from another hospital's device."""
    left, top, right, bottom = image.content
    side = max(right - left, bottom - top)
    matrix = np.array([[1.0, 0, -left], [0, 1.0, -top]])
    pixels = image.pixels()
    if rng is not None:
        pixels = vary_intensity(pixels, image.modality, rng, other_devices)
        plain = rng.random() < _PLAIN
        then = random_placement(side, side, rng, scales=(1.0, 1.0) if plain else _SCALES)
        matrix[:, 2] = then[:, :2] @ matrix[:, 2] + then[:, 2]
        matrix[:, :2] = then[:, :2] @ matrix[:, :2]
    size, height, width = side, bottom - top, right - left
    shown = place(pixels, matrix, size)[:height, :width]
    masks, labels = [], []
    for index, rle in enumerate(image.rles):
        if rle is None:
            continue
        whole = image.mask(index).astype(np.uint8) * 255
        mask = place(whole, matrix, size)[:height, :width] > 127
        if mask.sum() >= 0.3 * (whole > 0).sum() * abs(np.linalg.det(matrix[:, :2])) and mask.any():
            masks.append(mask)
            labels.append(image.class_index[index])
    largest = np.argsort([-mask.sum() for mask in masks])[:REGIONS].astype(int)
    chosen = np.stack([masks[i] for i in largest]) if masks else np.zeros((0, height, width), bool)
    return View(shown, chosen, np.array([labels[i] for i in largest], np.int64))


@dataclass(frozen=True)
class FeatureCache:
    """Views of train or val images, and what the networks made of them, memory-mapped.

    Boxes are xyxy in pixels of the segmenter's input (S x S); rows beyond the count of proposals or regions are zero.

    Attributes
    ----------
    image : int64 (M,), place in the split
    embedding, high_res_0, high_res_1 : float16 (M, 256, S/16, S/16), (M, 32, S/4, S/4), (M, 64, S/8, S/8)
    proposals : float32 (M, PROPOSALS, 6), the detector's boxes, score and class index, surest first
    regions : float32 (M, REGIONS, 5), the true boxes and their class index
    masks : uint8 (M, REGIONS, S/4, S/4), the share of each cell that is inside, 0..255
    counts : int64 (M, 2), how many proposals and regions there are
    """

    image: np.ndarray
    embedding: np.ndarray
    high_res_0: np.ndarray
    high_res_1: np.ndarray
    proposals: np.ndarray
    regions: np.ndarray
    masks: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.counts)

    def maps(self, number: int) -> list[np.ndarray]:
        """The three feature maps of a view in the decoder's order, float32."""
        held = (self.embedding, self.high_res_0, self.high_res_1)
        return [array[number].astype(np.float32) for array in held]

    @classmethod
    def read(cls, folder: Path) -> FeatureCache:
        """What is there so far."""
        try:
            done = int((folder / "done.txt").read_text())
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r")[:done] for name in cls.__annotations__}
        except (OSError, ValueError) as error:
            raise InputError(folder, f"no features ({error})", _EXPECTED) from None
        return cls(**arrays)


@dataclass(frozen=True)
class Features:
    """A folder of features: its caches, and what they were made with.

    Attributes
    ----------
    classes : names, in the order of the class indices
    size : side of the segmenter's input in pixels
    """

    folder: Path
    classes: tuple[str, ...]
    size: int

    @classmethod
    def open(cls, folder: Path) -> Features:
        content = read_object(folder / _ABOUT, _EXPECTED)
        try:
            return cls(folder, tuple(content["classes"]), int(content["size"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(folder / _ABOUT, f"unreadable ({error!r})", _EXPECTED) from None

    def split(self, name: str) -> FeatureCache:
        """'train' or 'val'."""
        return FeatureCache.read(self.folder / name)


def build(
    folder: Path,
    release: Release,
    precision: str,
    split: PreparedSplit,
    picks: np.ndarray,
    *,
    seed: int | None,
    other_devices: float = 0.0,
    threads: int | None = None,
) -> None:
    """Compute the features of the images at `picks` into `folder`; a stopped run goes on where it was.

    With a `seed` each is a random view, without the image as it is.
    """
    detector = Detector.from_release(release, precision, threads)
    segmenter = Segmenter.from_release(release, precision, threads)
    folder.mkdir(parents=True, exist_ok=True)
    done_path = folder / "done.txt"
    done = int(done_path.read_text()) if done_path.is_file() else 0
    arrays = _arrays(folder, picks, segmenter.size, new=not done)
    load = partial(_load, split, picks, seed, other_devices)
    views = _ahead(load, range(done, len(picks)))
    for number, view in tqdm(views, desc=folder.name, total=len(picks) - done, disable=None):
        rng = None if seed is None else np.random.default_rng((seed, number, 1))
        _fill(arrays, number, view, detector, segmenter, rng)
        if number % _SAVED_EVERY == _SAVED_EVERY - 1 or number + 1 == len(picks):
            for array in arrays.values():
                array.flush()
            done_path.write_text(str(number + 1))


def _load(split: PreparedSplit, picks: np.ndarray, seed: int | None, other_devices: float, number: int) -> View:
    rng = None if seed is None else np.random.default_rng((seed, number))
    return view_of(split.images[picks[number]], rng, other_devices)


def _ahead(load: Callable[[int], View], numbers: range) -> Iterator[tuple[int, View]]:
    """(number, view) in turn, the next one loading while the networks look at this one."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(load, numbers[0]) if len(numbers) else None
        for number in numbers:
            view = coming.result()
            if number + 1 < numbers.stop:
                coming = pool.submit(load, number + 1)
            yield number, view


def _arrays(folder: Path, picks: np.ndarray, size: int, *, new: bool) -> dict[str, np.ndarray]:
    count = len(picks)
    shapes = {
        "image": (np.int64, (count,)),
        "embedding": (np.float16, (count, 256, size // 16, size // 16)),
        "high_res_0": (np.float16, (count, 32, size // 4, size // 4)),
        "high_res_1": (np.float16, (count, 64, size // 8, size // 8)),
        "proposals": (np.float32, (count, PROPOSALS, 6)),
        "regions": (np.float32, (count, REGIONS, 5)),
        "masks": (np.uint8, (count, REGIONS, size // 4, size // 4)),
        "counts": (np.int64, (count, 2)),
    }
    arrays = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+" if new else "r+", dtype, shape)
        for name, (dtype, shape) in shapes.items()
    }
    arrays["image"][:] = picks
    return arrays


def _fill(
    arrays: dict[str, np.ndarray],
    number: int,
    view: View,
    detector: Detector,
    segmenter: Segmenter,
    rng: np.random.Generator | None,
) -> None:
    resize = _plan(view, detector, segmenter, rng)
    found = detector.propose(view.pixels)
    boxes = resize.boxes(found.boxes).clip(0, resize.size)
    seen = (boxes[:, 2:] - boxes[:, :2] >= 1).all(1)
    index = (found.class_ids[:, None] == detector.class_ids).argmax(1)
    rows = np.column_stack([boxes, found.scores, index])[seen]
    arrays["proposals"][number] = 0
    arrays["proposals"][number, : len(rows)] = rows
    features = segmenter.embed_input(resize.image(view.pixels), resize).features
    for name, feature in zip(("embedding", "high_res_0", "high_res_1"), features, strict=True):
        arrays[name][number] = feature[0]
    arrays["regions"][number] = 0
    (left, top, right, bottom), grid, regions = resize.window, segmenter.mask_size, 0
    for mask, class_index in zip(view.masks, view.class_index, strict=True):
        shown = np.zeros_like(mask)
        shown[top:bottom, left:right] = mask[top:bottom, left:right]
        if shown.sum() < _LEAST_SHOWN * mask.sum():
            continue
        arrays["regions"][number, regions, :4] = resize.boxes(box_of_mask(shown))[0]
        arrays["regions"][number, regions, 4] = class_index
        inside = shown[top:bottom, left:right].astype(np.uint8) * 255
        arrays["masks"][number, regions] = cv2.resize(inside, (grid, grid), interpolation=cv2.INTER_AREA)
        regions += 1
    arrays["counts"][number] = len(rows), regions


def _plan(view: View, detector: Detector, segmenter: Segmenter, rng: np.random.Generator | None) -> Resize:
    """What the encoder looks at: with `rng` at random, else as the chain would, given the true boxes."""
    height, width = view.pixels.shape[:2]
    true = np.array([box_of_mask(mask) for mask in view.masks], np.float32).reshape(-1, 4)
    if rng is None or segmenter.surroundings is None:
        return segmenter.plan(view.pixels, true)
    boxes = true[rng.permutation(len(true))[: rng.integers(1, 3)]] if len(true) else detector.detect(view.pixels).boxes
    if rng.random() < _WHOLE or not len(boxes):
        return segmenter.plan(view.pixels)
    factor = segmenter.surroundings * np.exp(rng.uniform(*np.log(_FACTORS)))
    shift = rng.normal(0, 0.1, 2) * (boxes[:, 2:] - boxes[:, :2]).max()
    return Resize.around(boxes + np.tile(shift, 2), width, height, segmenter.size, factor)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--release", required=True, metavar="RELEASE", help="whose networks: embedded, a folder, user/repo[@revision]")
    add("--data", type=Path, required=True, metavar="DIR", help="what `prepare` wrote")
    add("--out", type=Path, required=True, metavar="DIR", help="the features go here, 2 MB an image; it resumes there")
    add("--precision", default="int8", help="of the networks (default %(default)s)")
    add("--views", type=int, default=5000, help="random views of train images (default %(default)s)")
    add("--val-images", type=int, default=60, help="val images a source, and as many empty ones (default %(default)s)")
    text = "share of views without any region, where a source has them (default %(default)s)"
    add("--empty-share", type=float, default=0.25, help=text)
    text = "draw these sources so much oftener than the others, such as first=2,second=0.5"
    add("--emphasis", type=parse_by_source, metavar="NAME=N,...", help=text)
    text = "share of views that look as if from another hospital's device (default %(default)s)"
    add("--other-devices", type=float, default=0.0, metavar="SHARE", help=text)
    add("--threads", type=int, help="CPU threads (default: all cores)")
    add("--seed", type=int, default=0, help="(default %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    release = resolve(arguments.release)
    train = PreparedSplit.read(arguments.data, "train", arguments.emphasis)
    val = PreparedSplit.read(arguments.data, "val")
    names = tuple(entry["name"] for entry in release.config["classes"])
    if train.classes != names:
        found = f"the classes {', '.join(train.classes)}"
        raise InputError(arguments.data, found, f"{', '.join(names)}, as the release has them")
    if not train.images:
        raise InputError(arguments.data / "train.json", "no images", "at least one train image")
    rng = np.random.default_rng(arguments.seed)
    drawn = np.array([train.draw_index(rng, arguments.empty_share) for _ in range(arguments.views)])
    place = {id(image): number for number, image in enumerate(val.images)}
    even = np.array([place[id(image)] for image in val.evenly(arguments.val_images)], int)
    arguments.out.mkdir(parents=True, exist_ok=True)
    about = {"classes": names, "size": release.config["segmenter"]["input_size"], "release": release.sha256}
    with replace_file(arguments.out / _ABOUT) as file:
        json.dump(about | {"precision": arguments.precision, "seed": arguments.seed}, file, indent=1)
    options = {"threads": arguments.threads}
    build(arguments.out / "val", release, arguments.precision, val, even, seed=None, **options)
    options |= {"seed": arguments.seed, "other_devices": arguments.other_devices}
    build(arguments.out / "train", release, arguments.precision, train, drawn, **options)
    return 0
