"""YOLO-NAS: image -> boxes."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnxruntime

from hub import Release
from pipeline.box_fusion import fuse_boxes
from pipeline.geometry import Resize
from pipeline.results import Detections
from pipeline.runtime import open_graph

#: Boxes that a training on the detector's own boxes is given.
PROPOSALS = 32


class Detector:
    """Finds regions of a release's classes.

    Parameters
    ----------
    session
        `image` uint8 (1, S, S, 3) -> `boxes`, `scores`, `class_index`, surest first; see `pipeline.training.export`.
    config
        config.json of the release.
    """

    def __init__(self, session: onnxruntime.InferenceSession, config: dict):
        settings = config["detector"]
        self.session = session
        self.size, self.resize = settings["input_size"], settings["resize"]
        self.looks = [
            (look["zoom"], look["mirror"]) for look in settings.get("looks", [{"zoom": 1.0, "mirror": False}])
        ]
        self.max_detections = settings.get("max_detections", 20)
        self.class_ids = np.array([entry["id"] for entry in config["classes"]], np.int64)
        own, shares = settings.get("class_thresholds", {}), settings.get("class_best_shares", {})
        names = [entry["name"] for entry in config["classes"]]
        self.thresholds = np.array([own.get(name, settings["score_threshold"]) for name in names], np.float32)
        self.best_shares = np.array([shares.get(name, 0.0) for name in names], np.float32)

    @classmethod
    def from_release(cls, release: Release, precision: str = "int8", threads: int | None = None) -> Detector:
        names = {"inputs": ["image"], "outputs": ["boxes", "scores", "class_index"]}
        return cls(open_graph(release, "detector", precision, threads, **names), release.config)

    def detect(
        self, pixels: np.ndarray, *, min_score: float | None = None, class_ids: Collection[int] | None = None
    ) -> Detections:
        """The surest boxes of an image, at most the config's `max_detections`.

        Parameters
        ----------
        pixels
            uint8 (H, W, 3) RGB.
        min_score
            0..1; None takes the release's rules, class by class: a threshold, and a share of the surest score of the
            class in this image. Below 0.05 the network itself drops boxes.
        class_ids
            Look for these alone; None for all.
        """
        boxes, scores, index = self._find(pixels)
        keep = scores >= (self._least(scores, index) if min_score is None else np.float32(min_score))
        if class_ids is not None:
            keep &= np.isin(self.class_ids[index], list(class_ids))
        kept = np.flatnonzero(keep)[: self.max_detections]
        return Detections(boxes[kept], scores[kept].clip(0, 1), self.class_ids[index[kept]])

    def propose(self, pixels: np.ndarray) -> Detections:
        """The surest boxes of an image, uint8 (H, W, 3), whatever their scores."""
        boxes, scores, index = (part[:PROPOSALS] for part in self._find(pixels))
        return Detections(boxes, scores, self.class_ids[index])

    def _find(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes in pixels of the image, scores and class indices of all looks together, surest first."""
        boxes, scores, index = fuse_boxes([self._look(pixels, zoom, mirror) for zoom, mirror in self.looks])
        # what lies on the canvas' black border alone was clipped to nothing
        inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        return boxes[inside], scores[inside].clip(0, 1), index[inside]

    def _look(self, pixels: np.ndarray, zoom: float, mirror: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What one look finds: the image zoomed about its centre, what then lies outside cut off, perhaps mirrored."""
        height, width = pixels.shape[:2]
        side = round(self.size * zoom)
        resize = Resize.plan(width, height, side, self.resize)
        given = _centred(resize.image(pixels), self.size)
        if mirror:
            given = np.ascontiguousarray(given[:, ::-1])
        boxes, scores, index = self.session.run(None, {"image": given[None]})
        if mirror:
            boxes = np.stack([self.size - boxes[:, 2], boxes[:, 1], self.size - boxes[:, 0], boxes[:, 3]], axis=1)
        return resize.boxes_back(boxes - _offset(side, self.size)), scores, index

    def _least(self, scores: np.ndarray, index: np.ndarray) -> np.ndarray:
        """The least score that each box (N,) has to reach, by the release's rules for its class."""
        best = np.zeros(len(self.thresholds), np.float32)
        np.maximum.at(best, index, scores)
        return np.maximum(self.thresholds, self.best_shares * best)[index]


def _offset(side: int, size: int) -> int:
    """Where a square of `side` pixels begins that is centred on one of `size`; negative where it is the larger one."""
    return (size - side) // 2


def _centred(image: np.ndarray, size: int) -> np.ndarray:
    """A square image (S, S, 3) centred on a black square of `size`, or its middle where it is larger."""
    offset = _offset(len(image), size)
    if offset < 0:
        return image[-offset : size - offset, -offset : size - offset]
    canvas = np.zeros((size, size, 3), np.uint8)
    canvas[offset : offset + len(image), offset : offset + len(image)] = image
    return canvas
