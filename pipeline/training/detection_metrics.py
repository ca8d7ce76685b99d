"""Average precision by pycocotools, and the recall that matters for prompting."""

from __future__ import annotations

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.geometry import box_iou, xyxy_to_xywh
from pipeline.training.prepared import PreparedImage


def evaluate_boxes(images: list[PreparedImage], found: list[tuple], classes: tuple[str, ...]) -> dict[str, float]:
    """AP50, AP50-95, recall at IoU 0.5 of boxes with score >= 0.3 (all, and a class), boxes an empty image.

    `found` holds per image (boxes (N, 4) xyxy in canvas pixels, scores (N,), class_index (N,)).
    """
    hits, empties = {name: [] for name in classes}, []
    for image, (boxes, scores, class_index) in zip(images, found, strict=True):
        sure = scores >= 0.3
        if not len(image.boxes):
            empties.append(int(sure.sum()))
        for box, label in zip(image.boxes, image.class_index, strict=True):
            same = boxes[sure & (class_index == label)]
            hits[classes[label]].append(bool(len(same)) and bool(box_iou(box[None], same).max() >= 0.5))
    ap50, ap = average_precision([(image.boxes, image.class_index) for image in images], found) or (0.0, 0.0)
    recalls = {f"recall_{name}": float(np.mean(of)) for name, of in hits.items() if of}
    macro = float(np.mean(list(recalls.values()))) if recalls else 0.0
    return {
        "ap50": ap50,
        "ap50_95": ap,
        "recall": macro,
        **recalls,
        "boxes_an_empty_image": float(np.mean(empties or [0])),
    }


def average_precision(true: list[tuple], found: list[tuple]) -> tuple[float, float] | None:
    """(AP50, AP50-95), the mean over classes, by pycocotools; None without any true or any found box.

    Per image: `true` holds (boxes (N, 4) xyxy in pixels, class numbers (N,)), `found` also the scores between the two.
    """
    truth, guesses, classes = {"images": [], "annotations": []}, [], set()
    for number, ((boxes, labels), (found_boxes, scores, found_labels)) in enumerate(zip(true, found, strict=True), 1):
        truth["images"].append({"id": number})
        for box, label in zip(xyxy_to_xywh(boxes).tolist(), labels.tolist(), strict=True):
            entry = {"id": len(truth["annotations"]) + 1, "image_id": number, "category_id": label, "bbox": box}
            truth["annotations"].append(entry | {"area": box[2] * box[3], "iscrowd": 0})
        rows = zip(xyxy_to_xywh(found_boxes).tolist(), scores.tolist(), found_labels.tolist(), strict=True)
        guesses += [{"image_id": number, "category_id": c, "bbox": box, "score": score} for box, score, c in rows]
        classes |= {*labels.tolist(), *found_labels.tolist()}
    if not guesses or not truth["annotations"]:
        return None
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth | {"categories": [{"id": number} for number in sorted(classes)]}
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(guesses), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[1]), float(judge.stats[0])
