"""Detect, prompt, segment: the one place where the two models meet."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import numpy as np
from PIL import Image

from hub import Release, resolve
from pipeline.clicks import obey_clicks
from pipeline.detector import Detector
from pipeline.errors import InputError
from pipeline.frame_networks import FrameNetworks
from pipeline.geometry import Resize
from pipeline.memory import Memory
from pipeline.results import REGION_ID, REGION_LABEL, Detections, Segmentation, Timings
from pipeline.runtime import available_cores, runs_on_cuda
from pipeline.scan import Scan, read_scan
from pipeline.scope import Scope
from pipeline.segmenter import Embedding, Segmenter, open_encoder
from pipeline.shapes import Shapes

#: Embeddings kept for corrections on the same image, 1 to 4 MB each; as many as people may correct at the same time.
_KEPT_EMBEDDINGS = 8


class AutoSegmenter:
    """Finds and outlines regions of the release's classes, without any prompt; or outlines what is in given boxes.

    >>> segment = AutoSegmenter.from_release()
    >>> found = segment("scan.png")
    >>> found.labels, found.mask(0).shape

    May be used from several threads.
    """

    def __init__(
        self,
        detector: Detector,
        segmenter: Segmenter,
        scope: Scope | None,
        release: Release,
        precision: str,
        threads: int | None = None,
    ):
        self.detector, self.segmenter, self.scope = detector, segmenter, scope
        self.release, self.precision, self.threads = release, precision, threads
        self._embeddings: OrderedDict[bytes, Embedding] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def from_release(
        cls, weights: str | Path = "embedded", precision: str = "int8", threads: int | None = None
    ) -> AutoSegmenter:
        """Open the networks of a release.

        Parameters
        ----------
        weights
            'embedded', a release folder, or 'user/repo[@revision]' on the Hub.
        precision
            'int8', 'fp32', or with CUDA 'fp16'.
        threads
            CPU threads; None for all cores that this process may use.

        Raises
        ------
        hub.WeightsError
            Where the weights are missing, damaged or not this project's.
        InputError
            Where the release or the machine lacks that precision, or for threads below 1.
        """
        release = resolve(weights)
        return cls(
            Detector.from_release(release, precision, threads),
            Segmenter.from_release(release, precision, threads),
            Scope.from_release(release, precision, threads),
            release,
            precision,
            threads,
        )

    @cached_property
    def memory(self) -> Memory | None:
        """What carries masks through a stack, opened when it is first needed; None where the release lacks it."""
        return Memory.from_release(self.release, self.precision, self.threads)

    @cached_property
    def frame_networks(self) -> FrameNetworks:
        """The networks for frame after frame of a stack, opened when they are first needed."""
        threads = self.threads or available_cores()
        if threads == 1 or runs_on_cuda(self.precision):
            return FrameNetworks(self.detector, self.segmenter, 1)
        detector = Detector.from_release(self.release, self.precision, 1)
        encoder = open_encoder(self.release, self.precision, 1)
        return FrameNetworks(detector, Segmenter(encoder, self.segmenter.decoder, self.release.config), threads)

    @property
    def class_names(self) -> dict[int, str]:
        """Class id -> name, as in the release's config.json."""
        return {entry["id"]: entry["name"] for entry in self.release.config["classes"]}

    @property
    def label_ids(self) -> dict[str, int]:
        """What a person may call a box -> class id: the classes' names, and 'region'."""
        return {name: class_id for class_id, name in self.class_names.items()} | {REGION_LABEL: REGION_ID}

    @cached_property
    def shapes(self) -> Shapes:
        """What the release knows of its classes' outlines."""
        return Shapes.from_config(self.release.config)

    def __call__(
        self,
        image: Scan | np.ndarray | Image.Image | str | Path,
        *,
        boxes: np.ndarray | Sequence[Sequence[float]] | None = None,
        labels: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
        min_score: float | None = None,
    ) -> Segmentation:
        """Segment one image.

        Parameters
        ----------
        image
            A `Scan`, uint8 RGB pixels (H, W, 3), an 8-bit PIL image, or a path for `read_scan`.
        boxes
            (N, 4) xyxy in pixels of the image, by a person: outline these and look for nothing. Parts outside the image
            are cut off. Score 1.
        labels
            Names of the N boxes' classes, whose outlines are then shaped as those that are found; None calls each
            'region', class id 255.
        classes
            Names of the classes to look for; None for all.
        min_score
            Least score, 0..1; None takes the release's own, class by class.

        Returns
        -------
        Surest region first, given boxes in their order. Nothing found gives an empty one.

        Raises
        ------
        InputError
            For an image that can't be read, a box that covers nothing of it, an unknown class, labels that are not one
            a box, a score outside 0..1.
        """
        start = perf_counter()
        class_ids = self.class_ids(classes)
        if labels is not None and boxes is None:
            raise InputError("labels", "no boxes that they belong to", "boxes too, or neither")
        _check_score(min_score)
        scan = _scan(image)
        read_done = perf_counter()
        if boxes is None:
            found = self.detector.detect(scan.pixels, min_score=min_score, class_ids=class_ids)
        else:
            found = _drawn(boxes, *scan.pixels.shape[:2])
            found = found if labels is None else replace(found, class_ids=self._named(labels, len(found)))
        detect_done = perf_counter()
        resize = self.segmenter.plan(scan.pixels, found.boxes)
        # what was looked at is also compared with what the weights know, found or not
        needed = len(found) or (self.scope and boxes is None)
        embedding = self._embed(scan.pixels, resize) if needed else None
        out_of_scope = None
        if self.scope and embedding:
            distances = self.scope.distances(embedding)
            out_of_scope = self.scope.is_outside(distances)
            found = found[~np.isin(found.class_ids, self.scope.other_kinds(distances))]
        embed_done = perf_counter()
        mask_logits, ious, _ = (
            self.segmenter.decode(embedding, boxes=found.boxes) if len(found) else self.segmenter.no_masks()
        )
        decode_done = perf_counter()
        names = self.class_names | {REGION_ID: REGION_LABEL}
        labels = tuple(names[int(class_id)] for class_id in found.class_ids)
        mask_logits = self.shapes.of(mask_logits, labels, resize.boxes_in_cells(found.boxes, mask_logits.shape[-1]))
        end = perf_counter()
        return Segmentation(
            detections=found,
            labels=labels,
            mask_logits=mask_logits,
            mask_ious=ious,
            resize=resize,
            precision=self.precision,
            weights=self.release.identity,
            spacing_mm=scan.spacing_mm,
            out_of_scope=out_of_scope,
            timings=_timings(start, read_done, detect_done, embed_done, decode_done, end),
        )

    def outline(
        self,
        scan: Scan,
        boxes: np.ndarray,
        labels: Sequence[str],
        points: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        *,
        resize: Resize | None = None,
    ) -> tuple[np.ndarray, np.ndarray, Resize]:
        """Outline what boxes, and clicks with them, point at; clicks are obeyed, see `pipeline.clicks`.

        Of an image that was segmented only the decoder runs.

        Parameters
        ----------
        boxes
            float32 (N, 4), xyxy in pixels of the image.
        labels
            N names: a class's outlines have its shape, those of 'region' have none.
        points, point_labels
            float32 (N, P, 2), clicks as (x, y) in pixels of the image, and int64 (N, P): 1 inside, 0 outside, -1 none.
        resize
            Of a `Segmentation` of this image, so that the masks lie on the same grid; None plans it anew.

        Returns
        -------
        mask_logits float32 (N, G, G), the IoUs that the decoder expects, float32 (N,), and the way back to the image.
        """
        resize = resize or self.segmenter.plan(scan.pixels, boxes)
        if not len(boxes):
            return *self.segmenter.no_masks()[:2], resize
        embedding = self._embed(scan.pixels, resize)
        mask_logits, ious, _ = self.segmenter.decode(embedding, boxes=boxes, points=points, point_labels=point_labels)
        on_grid = resize.boxes_in_cells(boxes, mask_logits.shape[-1])
        mask_logits = self.shapes.of(mask_logits, labels, on_grid)
        if points is not None:
            cells = mask_logits.shape[-1] / resize.size
            mask_logits = obey_clicks(mask_logits, on_grid, resize.points(points) * cells, point_labels)
        return mask_logits, ious, resize

    def forget_embeddings(self) -> None:
        """Drop what is kept of the last images, so that the next run is measured whole."""
        with self._lock:
            self._embeddings.clear()

    def _embed(self, pixels: np.ndarray, resize: Resize) -> Embedding:
        """The image's embedding; from the last few images if it is one of them."""
        image = resize.image(pixels)
        key = hashlib.sha256(repr(resize).encode() + image.tobytes()).digest()
        with self._lock:
            embedding = self._embeddings.get(key)
        if embedding is None:
            embedding = self.segmenter.embed_input(image, resize)
        with self._lock:
            self._embeddings[key] = embedding
            self._embeddings.move_to_end(key)
            while len(self._embeddings) > _KEPT_EMBEDDINGS:
                self._embeddings.popitem(last=False)
        return embedding

    def class_ids(self, names: Sequence[str] | None) -> list[int] | None:
        """The ids of these classes; None for all. InputError for a name that the weights do not know."""
        if names is None:
            return None
        ids = {name: class_id for class_id, name in self.class_names.items()}
        names = [names] if isinstance(names, str) else names
        for name in names:
            if name not in ids:
                raise InputError("classes", f"{name!r} is not a class of these weights", ", ".join(ids))
        return [ids[name] for name in names]

    def _named(self, labels: Sequence[str], count: int) -> np.ndarray:
        """int64 (count,): the class ids of a person's boxes, by their names."""
        ids = self.label_ids
        for label in labels:
            if label not in ids:
                raise InputError("labels", f"{label!r} is not a class of these weights", ", ".join(ids))
        if len(labels) != count:
            raise InputError("labels", f"{len(labels)} for {count} boxes", "one a box")
        return np.array([ids[label] for label in labels], np.int64)


def _scan(image: Scan | np.ndarray | Image.Image | str | Path) -> Scan:
    if isinstance(image, Scan):
        return image
    if isinstance(image, str | Path):
        return read_scan(image)
    if isinstance(image, Image.Image):
        if image.mode.startswith(("I", "F")):
            raise InputError("image", f"a PIL image of mode {image.mode}", "8 bits a channel, or the path of the file")
        image = np.asarray(image.convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise InputError("image", f"a {type(image).__name__}", "a Scan, an array, a PIL image or a path")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError("image", f"{image.dtype} {image.shape}", "uint8 (height, width, 3), RGB")
    return Scan(Path("image"), image)


def _drawn(boxes: np.ndarray | Sequence[Sequence[float]], height: int, width: int) -> Detections:
    """Boxes by a person, clipped to the image."""
    expected = f"[x1, y1, x2, y2] with x1 < x2 and y1 < y2, inside {width}x{height} pixels at least in part"
    try:
        given = np.asarray(boxes, np.float64)
        given = given.reshape(len(given), 4)
    except (TypeError, ValueError):
        raise InputError("boxes", "not N rows of four numbers", expected) from None
    clipped = given.clip(0, (width, height, width, height)).astype(np.float32)
    for number, (box, inside) in enumerate(zip(given, clipped, strict=True), 1):
        x1, y1, x2, y2 = inside
        if not (np.isfinite(box).all() and x1 < x2 and y1 < y2):
            raise InputError(f"box {number}", str([round(value, 2) for value in box.tolist()]), expected)
    count = len(clipped)
    return Detections(clipped, np.ones(count, np.float32), np.full(count, REGION_ID, np.int64))


def _check_score(score: float | None) -> None:
    if score is None:
        return
    if isinstance(score, bool) or not isinstance(score, int | float | np.number) or not 0 <= score <= 1:
        raise InputError("min_score", repr(score), "a number from 0 to 1")


def _timings(*moments: float) -> Timings:
    """Milliseconds between start, read, detect, embed, decode and end."""
    stages = [(after - before) * 1000 for before, after in pairwise(moments)]
    return Timings(*stages, total=(moments[-1] - moments[0]) * 1000)
