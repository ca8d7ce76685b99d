"""YOLO-NAS: image -> boxes."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnxruntime

from hub import Release
from pipeline.geometry import Resize
from pipeline.results import Detections
from pipeline.runtime import open_graph


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
        height, width = pixels.shape[:2]
        resize = Resize.plan(width, height, self.size, self.resize)
        boxes, scores, index = self.session.run(None, {"image": resize.image(pixels)[None]})
        boxes = resize.boxes_back(boxes)
        keep = scores >= (self._least(scores, index) if min_score is None else np.float32(min_score))
        # what lies on the canvas' black border alone was clipped to nothing
        keep &= (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        if class_ids is not None:
            keep &= np.isin(self.class_ids[index], list(class_ids))
        kept = np.flatnonzero(keep)[: self.max_detections]
        return Detections(boxes[kept], scores[kept].clip(0, 1), self.class_ids[index[kept]])

    def _least(self, scores: np.ndarray, index: np.ndarray) -> np.ndarray:
        """The least score that each box (N,) has to reach, by the release's rules for its class."""
        best = np.zeros(len(self.thresholds), np.float32)
        np.maximum.at(best, index, scores)
        return np.maximum(self.thresholds, self.best_shares * best)[index]
