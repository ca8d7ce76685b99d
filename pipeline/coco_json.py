"""One image's regions as a COCO annotation file, which annotation tools and pycocotools open."""

from __future__ import annotations

from pipeline.results import NOTICE, REGION_ID, REGION_LABEL, Segmentation


def coco_json(segmentation: Segmentation, file: str, class_names: dict[int, str]) -> dict:
    """The regions of `file` in COCO's layout: `images`, `annotations`, `categories`.

    Masks are compressed RLE as in the JSON of the command line, boxes [x, y, width, height] in pixels. `score` and
    `mask_iou`, which COCO does not know, stand beside them. `categories` lists every class of the weights (id -> name
    in `class_names`), and `region`, id 255, where a person drew a box. What a person corrected has `corrected`: true.
    """
    record = segmentation.to_json(file)
    names = dict(class_names)
    if REGION_ID in segmentation.detections.class_ids:
        names[REGION_ID] = REGION_LABEL
    return {
        "info": {
            "description": f"AutoMedSeg. {NOTICE}",
            "version": record["weights"]["version"],
            **({"edits": record["edits"]} if "edits" in record else {}),
        },
        "images": [{"id": 1, "file_name": file, "width": record["width"], "height": record["height"]}],
        "annotations": [
            {
                "id": number,
                "image_id": 1,
                "category_id": found["class_id"],
                "bbox": found["box"],
                "area": found["area_px"],
                "segmentation": found["rle"],
                "iscrowd": 0,
                "score": found["score"],
                "mask_iou": found["mask_iou"],
                **({"corrected": True} if "corrected" in found else {}),
            }
            for number, found in enumerate(record["detections"], start=1)
        ],
        "categories": [{"id": class_id, "name": name} for class_id, name in names.items()],
    }
