"""A person corrects what was found: a segmentation and an edit give a new segmentation.

Nothing is changed in place, so undo is to go back to the segmentation before. The image's embedding is kept by
`AutoSegmenter`, so only the decoder runs, for the one region that the edit is about. Where that region reaches beyond
what the segmenter looked at, it looks anew, at all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from time import perf_counter

import numpy as np

from pipeline.auto_segmenter import AutoSegmenter
from pipeline.edits import Edit
from pipeline.errors import InputError
from pipeline.geometry import Resize, xywh_to_xyxy
from pipeline.results import REGION_LABEL, Clicks, Detections, Segmentation, Timings
from pipeline.scan import Scan
from pipeline.segmenter import PAD

#: A person vouches for what was corrected, as for a box that was drawn.
_SURE = 1.0
#: How far beyond a click that adds the box reaches when the click lay outside: a share of the image's longer side.
_MARGIN = 0.01


def correct(segmenter: AutoSegmenter, scan: Scan, found: Segmentation, edit: Edit) -> Segmentation:
    """Apply one edit.

    Parameters
    ----------
    segmenter
        The one that gave `found`; another decodes as well, only slower the first time.
    scan
        The image that was segmented.

    Returns
    -------
    The regions in their order, an added one at the end. A region whose box, mask or label a person set has score 1 and
    counts as corrected. A click that adds outside of the region's box makes the box reach it. `timings` are those of
    the edit alone.

    Raises
    ------
    InputError
        For a region that is not there, a box or click outside of the image, a label that the weights do not know.

    >>> found = segment("scan.png")
    >>> better = correct(segment, read_scan("scan.png"), found, Edit("click", region=1, point=(90, 40), inside=False))
    """
    start = perf_counter()
    if edit.region is not None and not 1 <= edit.region <= len(found):
        raise InputError(f"region {edit.region}", "no such region", f"1 to {len(found)}" if len(found) else "none here")
    changed = _ACTIONS[edit.action](segmenter, scan, found, edit)
    total = (perf_counter() - start) * 1000
    decode = total if edit.action in ("add", "box", "click") else 0.0
    return replace(changed, edits=(*found.edits, edit), timings=Timings(decode=decode, total=total))


def correct_all(segmenter: AutoSegmenter, scan: Scan, found: Segmentation, edits: Iterable[Edit]) -> Segmentation:
    """Apply edits one after the other; none gives `found` itself."""
    for edit in edits:
        found = correct(segmenter, scan, found, edit)
    return found


def _add(segmenter: AutoSegmenter, scan: Scan, found: Segmentation, edit: Edit) -> Segmentation:
    box = _inside(edit.box, scan)
    class_id, label = _class(segmenter, edit.label or REGION_LABEL)
    drawn = Detections(box[None], np.array([_SURE], np.float32), np.array([class_id], np.int64))
    blank = np.zeros((1, *found.mask_logits.shape[1:]), np.float32)
    added = replace(
        found,
        detections=_joined(found.detections, drawn),
        labels=(*found.labels, label),
        mask_logits=np.concatenate([found.mask_logits, blank]),
        mask_ious=np.append(found.mask_ious, np.float32(0)),
        clicks=(*_clicks(found), Clicks()),
    )
    return _decoded(segmenter, scan, added, len(found), found.resize if len(found) else None)


def _box(segmenter: AutoSegmenter, scan: Scan, found: Segmentation, edit: Edit) -> Segmentation:
    box = _inside(edit.box, scan)
    clicks = _clicks(found)[edit.region - 1] or Clicks()
    kept = [
        (point, inside)
        for point, inside in zip(clicks.points, clicks.inside, strict=True)
        if (box[:2] <= point).all() and (point <= box[2:]).all()
    ]
    return _reshaped(segmenter, scan, found, edit.region - 1, box, Clicks(*map(tuple, zip(*kept, strict=True))))


def _click(segmenter: AutoSegmenter, scan: Scan, found: Segmentation, edit: Edit) -> Segmentation:
    height, width = scan.pixels.shape[:2]
    x, y = edit.point
    if not (0 <= x <= width and 0 <= y <= height):
        raise InputError(f"click {x:g},{y:g}", "lies outside of the image", f"a point of its {width}x{height} pixels")
    index, adds = edit.region - 1, edit.inside is not False
    clicks, box = _clicks(found)[index] or Clicks(), found.detections.boxes[index]
    if adds and not (box[0] <= x <= box[2] and box[1] <= y <= box[3]):
        margin = _MARGIN * max(height, width)
        reach = [min(box[0], x - margin), min(box[1], y - margin), max(box[2], x + margin), max(box[3], y + margin)]
        box = np.array(reach, np.float32).clip(0, (width, height, width, height))
    clicks = Clicks((*clicks.points, (x, y)), (*clicks.inside, adds))
    return _reshaped(segmenter, scan, found, index, box, clicks)


def _relabel(segmenter: AutoSegmenter, scan: Scan, found: Segmentation, edit: Edit) -> Segmentation:
    index = edit.region - 1
    class_id, label = _class(segmenter, edit.label)
    return _with(found, index, found.detections.boxes[index], class_id, label, _clicks(found)[index] or Clicks())


def _delete(segmenter: AutoSegmenter, scan: Scan, found: Segmentation, edit: Edit) -> Segmentation:
    keep = np.arange(len(found)) != edit.region - 1
    return replace(
        found,
        detections=found.detections[keep],
        labels=_kept(found.labels, keep),
        mask_logits=found.mask_logits[keep],
        mask_ious=found.mask_ious[keep],
        clicks=_kept(_clicks(found), keep),
    )


_ACTIONS = {"add": _add, "box": _box, "click": _click, "relabel": _relabel, "delete": _delete}


def _reshaped(
    segmenter: AutoSegmenter, scan: Scan, found: Segmentation, index: int, box: np.ndarray, clicks: Clicks
) -> Segmentation:
    """The region outlined anew from another box and clicks."""
    class_id, label = int(found.detections.class_ids[index]), found.labels[index]
    changed = _with(found, index, box, class_id, label, clicks)
    return _decoded(segmenter, scan, changed, index, found.resize)


def _decoded(
    segmenter: AutoSegmenter, scan: Scan, found: Segmentation, index: int, resize: Resize | None
) -> Segmentation:
    """The region outlined from its box and clicks, the others as they are; all of them where it is not in sight."""
    boxes, clicks = found.detections.boxes, _clicks(found)
    if resize is not None and resize.shows(boxes[index]):
        one = slice(index, index + 1)
        prompts = boxes[one], found.labels[one], *_prompts(clicks[one])
        logits, ious, _ = segmenter.outline(scan, *prompts, resize=resize)
        mask_logits, mask_ious = _set(found.mask_logits, index, logits[0]), _set(found.mask_ious, index, ious[0])
    else:
        mask_logits, mask_ious, resize = segmenter.outline(scan, boxes, found.labels, *_prompts(clicks))
    return replace(found, mask_logits=mask_logits, mask_ious=mask_ious, resize=resize)


def _prompts(clicks: tuple[Clicks | None, ...]) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Clicks of N regions: points float32 (N, P, 2) and labels int64 (N, P); no clicks at all give None."""
    most = max((len(one.points) for one in clicks if one), default=0)
    if not most:
        return None, None
    points, labels = np.zeros((len(clicks), most, 2), np.float32), np.full((len(clicks), most), PAD, np.int64)
    for row, one in enumerate(clicks):
        if one and one.points:
            points[row, : len(one.points)], labels[row, : len(one.points)] = one.points, one.inside
    return points, labels


def _with(found: Segmentation, index: int, box: np.ndarray, class_id: int, label: str, clicks: Clicks) -> Segmentation:
    """The region with another box, class and clicks, and a person's certainty."""
    detections = found.detections
    return replace(
        found,
        detections=Detections(
            _set(detections.boxes, index, box),
            _set(detections.scores, index, _SURE),
            _set(detections.class_ids, index, class_id),
        ),
        labels=(*found.labels[:index], label, *found.labels[index + 1 :]),
        clicks=(*_clicks(found)[:index], clicks, *_clicks(found)[index + 1 :]),
    )


def _class(segmenter: AutoSegmenter, label: str) -> tuple[int, str]:
    ids = segmenter.label_ids
    if label not in ids:
        raise InputError("label", f"{label!r} is not a class of these weights", ", ".join(ids))
    return ids[label], label


def _inside(box: tuple[float, float, float, float], scan: Scan) -> np.ndarray:
    """[x, y, width, height] -> float32 (4,) xyxy, cut off at the image's border."""
    height, width = scan.pixels.shape[:2]
    x0, y0, x1, y1 = clipped = xywh_to_xyxy(np.array(box))[0].clip(0, (width, height, width, height))
    if not (x0 < x1 and y0 < y1):
        given = ",".join(f"{value:g}" for value in box)
        raise InputError(f"box {given}", "lies outside of the image", f"one that covers some of its {width}x{height}")
    return clipped.astype(np.float32)


def _clicks(found: Segmentation) -> tuple[Clicks | None, ...]:
    return found.clicks or (None,) * len(found)


def _joined(first: Detections, second: Detections) -> Detections:
    return Detections(
        *(np.concatenate([getattr(first, name), getattr(second, name)]) for name in ("boxes", "scores", "class_ids"))
    )


def _kept(values: tuple, keep: np.ndarray) -> tuple:
    return tuple(value for value, kept in zip(values, keep, strict=True) if kept)


def _set(array: np.ndarray, index: int, value: object) -> np.ndarray:
    changed = array.copy()
    changed[index] = value
    return changed
