"""MedSAM2: embed an image once, decode any number of boxes and clicks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime

from hub import Release
from pipeline.geometry import Resize
from pipeline.runtime import open_graph

#: What a prompt's point means to the decoder.
PAD, NEGATIVE, POSITIVE, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT = -1, 0, 1, 2, 3
#: Boxes decoded in one run: bounds the memory, and more at once is no faster.
_PROMPTS_A_RUN = 8
_FEATURES = ("embedding", "high_res_0", "high_res_1")


@dataclass(frozen=True, eq=False)
class Embedding:
    """What the encoder made of one image: all that its prompts need.

    Attributes
    ----------
    features : float32 (1, 256, S/16, S/16), (1, 32, S/4, S/4), (1, 64, S/8, S/8)
    resize : the way between the image and the encoder's input of S x S pixels
    """

    features: tuple[np.ndarray, np.ndarray, np.ndarray]
    resize: Resize


@dataclass(frozen=True, eq=False)
class Decoded:
    """What the decoder makes of N prompts.

    Attributes
    ----------
    mask_logits : float32 (N, G, G) over the encoder's whole input; > 0 is inside. `Resize.mask_back` brings it back.
    ious : float32 (N,), the IoU that the decoder expects, 0..1
    object_scores : float32 (N,), logits of there being anything; means something only where that head was trained
    mask_tokens : float32 (N, 256), what `pipeline.memory` makes object pointers of; None where the release has none
    """

    mask_logits: np.ndarray
    ious: np.ndarray
    object_scores: np.ndarray
    mask_tokens: np.ndarray | None = None


class Segmenter:
    """Outlines what a box or clicks point at.

    Parameters
    ----------
    encoder
        `image` uint8 (1, S, S, 3) -> three feature maps.
    decoder
        The feature maps, `point_coords`, `point_labels` -> `mask_logits`, `iou`, `object_score`, and of newer releases
        `mask_token`.
    config
        config.json of the release.
    """

    def __init__(self, encoder: onnxruntime.InferenceSession, decoder: onnxruntime.InferenceSession, config: dict):
        settings = config["segmenter"]
        self.encoder, self.decoder, self.settings = encoder, decoder, settings
        self.size, self.resize = settings["input_size"], settings["resize"]
        self.mask_size = settings.get("mask_size", self.size // 4)
        self.surroundings = settings.get("surroundings")

    @classmethod
    def from_release(cls, release: Release, precision: str = "int8", threads: int | None = None) -> Segmenter:
        prompts, found = ["point_coords", "point_labels"], ["mask_logits", "iou", "object_score"]
        encoder = open_encoder(release, precision, threads)
        names = {"inputs": [*_FEATURES, *prompts], "outputs": found, "optional_outputs": ["mask_token"]}
        decoder = open_graph(release, "mask_decoder", precision, threads, **names)
        return cls(encoder, decoder, release.config)

    def plan(self, pixels: np.ndarray, boxes: np.ndarray | None = None) -> Resize:
        """The way between this image, uint8 (H, W, 3), and the encoder's input.

        With boxes float32 (N, 4), and where the release was trained for it (`surroundings` in its config.json), only
        their surroundings are looked at, so that a small region is seen in more detail.
        """
        return plan_input(self.settings, pixels.shape[1], pixels.shape[0], boxes)

    def embed(self, pixels: np.ndarray, boxes: np.ndarray | None = None) -> Embedding:
        """uint8 (H, W, 3) RGB -> its embedding, seen as `plan` says. The costly half: once an image is enough."""
        resize = self.plan(pixels, boxes)
        return self.embed_input(resize.image(pixels), resize)

    def embed_input(self, image: np.ndarray, resize: Resize) -> Embedding:
        """The same for an image that was resized already, uint8 (S, S, 3)."""
        return Embedding(tuple(self.encoder.run(None, {"image": image[None]})), resize)

    def decode(
        self,
        embedding: Embedding,
        *,
        boxes: np.ndarray | None = None,
        points: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`mask_logits`, `ious` and `object_scores` of what `decode_prompts` gives for the same."""
        found = self.decode_prompts(embedding, boxes=boxes, points=points, point_labels=point_labels)
        return found.mask_logits, found.ious, found.object_scores

    def decode_prompts(
        self,
        embedding: Embedding,
        *,
        boxes: np.ndarray | None = None,
        points: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
    ) -> Decoded:
        """One mask a prompt; a prompt is a box, clicks, or a box with clicks.

        Parameters
        ----------
        boxes
            float32 (N, 4), xyxy in pixels of the original image.
        points
            float32 (N, P, 2), clicks as (x, y) in pixels of the original image.
        point_labels
            int64 (N, P): 1 inside, 0 outside, -1 for none where prompts have fewer clicks than P.
        """
        coords, labels = _prompts(boxes, points, point_labels)
        coords = embedding.resize.points(coords)
        parts = []
        for first in range(0, len(coords), _PROMPTS_A_RUN):
            rows = slice(first, first + _PROMPTS_A_RUN)
            parts.append(self._run(embedding.features, coords[rows], labels[rows]))
        return self._joined(parts)

    def decode_conditioned(
        self, embedding: Embedding, conditioned: np.ndarray, boxes: np.ndarray | None = None
    ) -> Decoded:
        """One mask an object that memory tells of, in a frame where nobody points at it.

        Parameters
        ----------
        embedding
            Of the frame.
        conditioned
            float32 (N, 256, S/16, S/16), what `Memory.condition` made of it for each object.
        boxes
            float32 (N, 4), xyxy in pixels of the original frame, where an object's box is known all the same.
        """
        if boxes is None:
            coords = np.zeros((len(conditioned), 1, 2), np.float32)
            labels = np.full((len(conditioned), 1), PAD, np.int64)
        else:
            coords, labels = box_to_points(boxes)
            coords = embedding.resize.points(coords)
        high_res = embedding.features[1:]
        rows = (slice(row, row + 1) for row in range(len(conditioned)))
        return self._joined([self._run((conditioned[row], *high_res), coords[row], labels[row]) for row in rows])

    def _run(self, features: Sequence[np.ndarray], coords: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
        given = dict(zip(_FEATURES, features, strict=True))
        return self.decoder.run(None, given | {"point_coords": coords, "point_labels": labels})

    def _joined(self, parts: list[list[np.ndarray]]) -> Decoded:
        if not parts:
            return Decoded(*self.no_masks())
        return Decoded(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def no_masks(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What `decode` gives for no prompt at all."""
        none = np.zeros(0, np.float32)
        return np.zeros((0, self.mask_size, self.mask_size), np.float32), none, none


def open_encoder(release: Release, precision: str, threads: int | None = None) -> onnxruntime.InferenceSession:
    """The image encoder alone, as `Segmenter` takes it."""
    return open_graph(release, "image_encoder", precision, threads, inputs=["image"], outputs=_FEATURES)


def plan_input(settings: dict, width: int, height: int, boxes: np.ndarray | None = None) -> Resize:
    """The way between an image of this size and a network's input, by the network's part of config.json; `surroundings`
    counts where there are boxes (N, 4)."""
    size, factor = settings["input_size"], settings.get("surroundings")
    if factor is None or boxes is None or not len(boxes):
        return Resize.plan(width, height, size, settings["resize"])
    return Resize.around(boxes, width, height, size, factor)


def box_to_points(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 (N, 4) xyxy -> the two corners, float32 (N, 2, 2), and their labels, int64 (N, 2)."""
    corners = np.asarray(boxes, np.float32).reshape(-1, 2, 2)
    return corners, np.tile(np.array([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT], np.int64), (len(corners), 1))


def _prompts(
    boxes: np.ndarray | None, points: np.ndarray | None, point_labels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes' corners, then clicks: float32 (N, P, 2), int64 (N, P)."""
    parts = [] if boxes is None else [box_to_points(boxes)]
    if points is not None:
        points, point_labels = np.asarray(points, np.float32), np.asarray(point_labels, np.int64)
        if points.ndim != 3 or points.shape[2] != 2 or point_labels.shape != points.shape[:2]:
            shapes = f"points {points.shape}, point_labels {point_labels.shape}"
            raise ValueError(f"{shapes}; expected (N, P, 2) and (N, P)")
        parts.append((points, point_labels))
    if not parts:
        raise ValueError("nothing to decode: boxes, points, or both")
    coords, labels = zip(*parts, strict=True)
    return np.concatenate(coords, axis=1), np.concatenate(labels, axis=1)
