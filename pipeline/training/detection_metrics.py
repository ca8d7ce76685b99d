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
    truth = {"images": [], "annotations": [], "categories": [{"id": i, "name": n} for i, n in enumerate(classes)]}
    guesses, hits, empties = [], {name: [] for name in classes}, []
    for number, (image, (boxes, scores, class_index)) in enumerate(zip(images, found, strict=True), start=1):
        truth["images"].append({"id": number})
        for box, label in zip(xyxy_to_xywh(image.boxes).tolist(), image.class_index.tolist(), strict=True):
            entry = {"id": len(truth["annotations"]) + 1, "image_id": number, "category_id": label, "bbox": box}
            truth["annotations"].append(entry | {"area": box[2] * box[3], "iscrowd": 0})
        for box, score, label in zip(xyxy_to_xywh(boxes).tolist(), scores.tolist(), class_index.tolist(), strict=True):
            guesses.append({"image_id": number, "category_id": label, "bbox": box, "score": score})
        sure = scores >= 0.3
        if not len(image.boxes):
            empties.append(int(sure.sum()))
        for box, label in zip(image.boxes, image.class_index, strict=True):
            same = boxes[sure & (class_index == label)]
            hits[classes[label]].append(bool(len(same)) and bool(box_iou(box[None], same).max() >= 0.5))
    ap50 = ap = 0.0
    if guesses and truth["annotations"]:
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO()
            coco.dataset = truth
            coco.createIndex()
            judge = COCOeval(coco, coco.loadRes(guesses), "bbox")
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        ap, ap50 = float(judge.stats[0]), float(judge.stats[1])
    recalls = {f"recall_{name}": float(np.mean(of)) for name, of in hits.items() if of}
    macro = float(np.mean(list(recalls.values()))) if recalls else 0.0
    return {
        "ap50": ap50,
        "ap50_95": ap,
        "recall": macro,
        **recalls,
        "boxes_an_empty_image": float(np.mean(empties or [0])),
    }
