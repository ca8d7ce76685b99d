"""What the chain returns: frozen dataclasses that check themselves, and their exports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from pycocotools import mask as coco_mask

from pipeline.geometry import Resize, xyxy_to_xywh
from pipeline.rle import encode_mask

if TYPE_CHECKING:
    from pipeline.edits import Edit

#: What everything that a person may rely on says of itself.
NOTICE = "Research software, not a medical device."

#: Class id and label of a box that a person drew.
REGION_ID, REGION_LABEL = 255, "region"
#: What `out_of_scope` says to a person.
OUT_OF_SCOPE = "This image is unlike all that these weights know: do not rely on what was found."
#: Rows of a mask that are expanded at once: keeps a 12000x9000 image's masks from filling the memory.
_BAND_ROWS = 512


@dataclass(frozen=True)
class Detections:
    """Boxes of one image, surest first.

    Attributes
    ----------
    boxes : float32 (N, 4), xyxy in pixels of the original image
    scores : float32 (N,), 0..1
    class_ids : int64 (N,), the ids of the release's config.json; 255 is a box that a person drew
    """

    boxes: np.ndarray
    scores: np.ndarray
    class_ids: np.ndarray

    def __post_init__(self):
        count = len(self.boxes)
        for name, dtype, shape in (
            ("boxes", np.float32, (count, 4)),
            ("scores", np.float32, (count,)),
            ("class_ids", np.int64, (count,)),
        ):
            _check_array(f"Detections.{name}", getattr(self, name), dtype, shape)
        _check_values("Detections.boxes", np.isfinite(self.boxes).all(1), "finite corners")
        _check_values("Detections.boxes", (self.boxes[:, :2] <= self.boxes[:, 2:]).all(1), "x0 <= x1 and y0 <= y1")
        _check_values("Detections.scores", (self.scores >= 0) & (self.scores <= 1), "0..1")
        # 0 is the background of a label map, which holds uint8
        _check_values("Detections.class_ids", (self.class_ids >= 1) & (self.class_ids <= 255), "1..255")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, keep: np.ndarray | slice) -> Detections:
        return Detections(self.boxes[keep], self.scores[keep], self.class_ids[keep])

    @classmethod
    def none(cls) -> Detections:
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Timings:
    """Wall milliseconds a stage, all from `time.perf_counter`. `total` is from start to end, so at least their sum."""

    read: float = 0.0
    detect: float = 0.0
    embed: float = 0.0
    decode: float = 0.0
    post: float = 0.0
    total: float = 0.0


@dataclass(frozen=True)
class Clicks:
    """What a person clicked to correct one region: (x, y) in pixels of the image, and whether it belongs to the region.

    A region that was corrected in another way, or drawn, has none.
    """

    points: tuple[tuple[float, float], ...] = ()
    inside: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Segmentation:
    """The regions of one image: a box, a class, a score and a mask each, in the same order everywhere.

    Masks are held as the decoder gives them, small; `mask(i)` expands one to the original size.

    Attributes
    ----------
    detections : the boxes that prompted the masks
    labels : N class names
    mask_logits : float32 (N, G, G) over the segmenter's whole input; > 0 is inside
    mask_ious : float32 (N,), the IoU that the segmenter predicts for each mask
    resize : the way between the original image and the segmenter's input
    spacing_mm : (row, column) distance of pixel centres in mm, or None where the file gives none
    weights : version and sha256 of the release, and its commit where it comes from the Hub
    out_of_scope : whether the image is unlike all that the weights know; None where the release can't tell
    clicks : for each region that a person corrected or drew its clicks, else None; empty where no one corrected any
    edits : what a person did to what was found, in order
    """

    detections: Detections
    labels: tuple[str, ...]
    mask_logits: np.ndarray
    mask_ious: np.ndarray
    resize: Resize
    precision: str
    weights: dict[str, str]
    spacing_mm: tuple[float, float] | None = None
    out_of_scope: bool | None = None
    timings: Timings = field(default_factory=Timings)
    clicks: tuple[Clicks | None, ...] = ()
    edits: tuple[Edit, ...] = ()

    def __post_init__(self):
        count = len(self.detections)
        if self.clicks and len(self.clicks) != count:
            raise ValueError(f"Segmentation.clicks: {len(self.clicks)} for {count} detections")
        if len(self.labels) != count:
            raise ValueError(f"Segmentation.labels: {len(self.labels)} names for {count} detections")
        grid = self.mask_logits.shape[-1] if self.mask_logits.ndim == 3 else 0
        _check_array("Segmentation.mask_logits", self.mask_logits, np.float32, (count, grid, grid))
        _check_array("Segmentation.mask_ious", self.mask_ious, np.float32, (count,))

    def __len__(self) -> int:
        return len(self.detections)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the original image."""
        return self.resize.height, self.resize.width

    def is_corrected(self, index: int) -> bool:
        """Whether a person corrected or drew detection `index`."""
        return bool(self.clicks) and self.clicks[index] is not None

    @property
    def note(self) -> str | None:
        """What files say of the corrections, `corrected by a person: 2 lung; 1 deleted`; None where there are none."""
        if not self.edits:
            return None
        numbered = enumerate(self.labels, start=1)
        corrected = ", ".join(f"{number} {label}" for number, label in numbered if self.is_corrected(number - 1))
        deleted = sum(edit.action == "delete" for edit in self.edits)
        parts = [*([corrected] if corrected else []), *([f"{deleted} deleted"] if deleted else [])]
        return f"corrected by a person: {'; '.join(parts)}"

    def mask(self, index: int, rows: slice | None = None) -> np.ndarray:
        """Mask of detection `index`, bool (H, W) at the original size; or of a band of its rows, bool (rows, W)."""
        if rows is not None:
            return self.resize.mask_back(self.mask_logits[index], rows)
        mask = np.empty(self.size, bool)
        for band in self._bands():
            mask[band] = self.mask(index, band)
        return mask

    def at_size(self, width: int, height: int) -> Segmentation:
        """The same regions on the image shrunk (or grown) to `width` x `height` pixels, for display."""
        scale = np.array([width / self.resize.width, height / self.resize.height] * 2, np.float32)
        return replace(
            self,
            detections=replace(self.detections, boxes=self.detections.boxes * scale),
            resize=replace(self.resize, width=width, height=height),
            spacing_mm=None,
        )

    def label_map(self) -> np.ndarray:
        """Class ids, uint8 (H, W), 0 = background; where masks overlap the higher score is on top."""
        label_map = np.zeros(self.size, np.uint8)
        for index in self.surest_last():
            for rows in self._bands():
                inside = self.mask(index, rows)
                label_map[rows][inside] = self.detections.class_ids[index]
        return label_map

    def surest_last(self) -> np.ndarray:
        """Indices of the detections in the order to draw them, so that the higher score is on top."""
        return np.argsort(self.detections.scores, kind="stable")

    def to_json(self, file: str) -> dict:
        """The JSON of the command line (DESIGN: `<stem>.json`), boxes as [x, y, width, height].

        Where a person corrected something, the detection has `"corrected": true`, and `edits` lists what was done.
        """
        edits = {"edits": [edit.to_json() for edit in self.edits]} if self.edits else {}
        return {
            "file": file,
            "width": self.resize.width,
            "height": self.resize.height,
            "precision": self.precision,
            "weights": dict(self.weights),
            "out_of_scope": self.out_of_scope,
            "detections": [self._detection_json(index) for index in range(len(self))],
            "timings_ms": {stage: round(ms, 2) for stage, ms in asdict(self.timings).items()},
            **edits,
        }

    def _detection_json(self, index: int) -> dict:
        rle = encode_mask(self.mask(index))
        area_px = int(coco_mask.area(rle))
        area_mm2 = None
        if self.spacing_mm is not None:
            area_mm2 = round(area_px * self.spacing_mm[0] * self.spacing_mm[1], 3)
        return {
            "label": self.labels[index],
            "class_id": int(self.detections.class_ids[index]),
            "score": round(float(self.detections.scores[index]), 4),
            "box": [round(float(v), 2) for v in xyxy_to_xywh(self.detections.boxes[index])[0]],
            "mask_iou": round(float(self.mask_ious[index]), 4),
            "area_px": area_px,
            "area_mm2": area_mm2,
            "rle": {"size": list(self.size), "counts": rle["counts"].decode("ascii")},
            **({"corrected": True} if self.is_corrected(index) else {}),
        }

    def _bands(self) -> Iterator[slice]:
        for first in range(0, self.size[0], _BAND_ROWS):
            yield slice(first, min(first + _BAND_ROWS, self.size[0]))


def _check_array(name: str, array: np.ndarray, dtype: type, shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{name}: {array.dtype} {array.shape}; expected {np.dtype(dtype)} {shape}")


def _check_values(name: str, good: np.ndarray, expected: str) -> None:
    if not good.all():
        raise ValueError(f"{name}: row {int(np.argmin(good))} is out of bounds; expected {expected}")
