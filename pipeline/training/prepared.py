"""Prepared images for training: what `python -m pipeline prepare` wrote, read back."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from pipeline.errors import InputError
from pipeline.geometry import xywh_to_xyxy


@dataclass(frozen=True)
class PreparedImage:
    """One canvas and its labels.

    Attributes
    ----------
    content : (left, top, right, bottom) of the image on the canvas; the rest is black
    boxes : float32 (N, 4), xyxy in canvas pixels
    class_index : int64 (N,), 0-based
    rles : N COCO run-length masks, None where the source only gives boxes
    """

    path: Path
    source: str
    modality: str
    content: tuple[int, int, int, int]
    boxes: np.ndarray
    class_index: np.ndarray
    rles: tuple[dict | None, ...]

    def pixels(self) -> np.ndarray:
        """uint8 (640, 640, 3)."""
        try:
            with Image.open(self.path) as image:
                return np.asarray(image.convert("RGB"))
        except OSError as error:
            raise InputError(
                self.path, f"broken image ({error})", "the canvas that `prepare` wrote; run it again"
            ) from None

    def mask(self, index: int) -> np.ndarray:
        """bool (640, 640)."""
        return coco_mask.decode(self.rles[index]).astype(bool)

    @cached_property
    def outlines(self) -> list[np.ndarray]:
        """N convex hulls float64 (K, 2), x and y in canvas pixels: of masks, or of boxes where there is none."""
        return [
            _corners(box) if rle is None else _hull(coco_mask.decode(rle))
            for box, rle in zip(self.boxes, self.rles, strict=True)
        ]


@dataclass(frozen=True)
class PreparedSplit:
    """The images of one split.

    Attributes
    ----------
    classes : class names; `class_index` counts in this order
    emphasis : how much oftener than once a source is drawn; 1 for those that it does not name
    """

    classes: tuple[str, ...]
    images: tuple[PreparedImage, ...]
    emphasis: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, split: str, emphasis: dict[str, float] | None = None) -> PreparedSplit:
        path = folder / f"{split}.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            categories, images, annotations = (content[key] for key in ("categories", "images", "annotations"))
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                path, f"unreadable ({error!r})", "a folder that `python -m pipeline prepare` wrote"
            ) from None
        index_of = {category["id"]: number for number, category in enumerate(categories)}
        labels = defaultdict(list)
        for annotation in annotations:
            labels[annotation["image_id"]].append(annotation)
        prepared = cls(
            tuple(category["name"] for category in categories),
            tuple(_image(folder, image, labels[image["id"]], index_of) for image in images),
            emphasis or {},
        )
        prepared.check_sources("--emphasis", prepared.emphasis)
        return prepared

    def check_sources(self, option: str, numbers: dict[str, float]) -> None:
        """Raises InputError where an option names a source that is not here."""
        strange = sorted(set(numbers) - set(self.by_source))
        if strange:
            raise InputError(option, f"{strange[0]!r} is no source of the prepared images", ", ".join(self.by_source))

    @cached_property
    def by_source(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """{source: (indices of images with regions, indices of empty images)}."""
        groups: dict[str, tuple[list, list]] = defaultdict(lambda: ([], []))
        for number, image in enumerate(self.images):
            groups[image.source][not len(image.boxes)].append(number)
        return {source: (np.array(full, int), np.array(empty, int)) for source, (full, empty) in sorted(groups.items())}

    def draw(self, rng: np.random.Generator, empty_share: float) -> PreparedImage:
        """A random image: each source equally likely but for `emphasis`, about `empty_share` without any region."""
        return self.images[self.draw_index(rng, empty_share)]

    def draw_index(self, rng: np.random.Generator, empty_share: float) -> int:
        """Where in `images` such a draw lies."""
        shares = np.array([self.emphasis.get(source, 1.0) for source in self.by_source])
        full, empty = list(self.by_source.values())[rng.choice(len(shares), p=shares / shares.sum())]
        pool = empty if len(empty) and (not len(full) or rng.random() < empty_share) else full
        return int(rng.choice(pool))

    def evenly(self, per_source: int, *, empty: bool = True) -> list[PreparedImage]:
        """At most `per_source` images of each source, evenly spaced: with regions, and as many without if `empty`."""
        picked = []
        for pools in self.by_source.values():
            for pool in pools[: 1 + empty]:
                places = np.linspace(0, len(pool) - 1, min(per_source, len(pool))).round().astype(int)
                picked += [self.images[number] for number in pool[np.unique(places)]]
        return picked


def _corners(box: np.ndarray) -> np.ndarray:
    left, top, right, bottom = box
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)


def _hull(mask: np.ndarray) -> np.ndarray:
    """The convex hull (K, 2) of a mask's pixels, each a square of side one."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    points = np.concatenate(contours).reshape(-1, 2)
    squares = np.concatenate([points + offset for offset in ((0, 0), (1, 0), (0, 1), (1, 1))])
    return cv2.convexHull(squares.astype(np.int32)).reshape(-1, 2).astype(float)


def _image(folder: Path, image: dict, annotations: list[dict], index_of: dict[int, int]) -> PreparedImage:
    return PreparedImage(
        folder / image["file_name"],
        image["source"],
        image["modality"],
        tuple(image["content"]),
        xywh_to_xyxy(np.array([a["bbox"] for a in annotations], np.float32)).astype(np.float32),
        np.array([index_of[a["category_id"]] for a in annotations], np.int64),
        tuple(a["segmentation"] or None for a in annotations),
    )


def parse_by_source(text: str) -> dict[str, float]:
    """`name=2,other=0.5` -> a number a source."""
    try:
        pairs = [part.split("=") for part in text.split(",")]
        shares = {name.strip(): float(value) for name, value in pairs}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; expected NAME=NUMBER, separated by commas") from None
    if not all(0 <= share < float("inf") for share in shares.values()):
        raise argparse.ArgumentTypeError(f"{text!r}; expected numbers from 0")
    return shares
