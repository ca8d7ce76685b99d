"""COCO JSON: a user's own images with own classes, and what `prepare` writes.

A source is one .json file, or a folder with one in it or in its `annotations/`; several only if their names say the
split (`train.json`, `instances_val2017.json`). Images lie relative to the file's folder or in its `images/`; with
`annotations/`, also beside that. A region is a polygon, run lengths (compressed or not) or only a bbox; `iscrowd` makes
no difference, because many tools set it for any run lengths.

Beyond COCO, an image may carry `patient` (else each is its own), `split` (else the file's name says it), `series`,
`slice_index` and `modality`. With a list `videos`, an image with `video_id` and `frame_id` (from 0) is a frame: the
frames of a video are one series and, where nothing else is said, one patient, so that no split cuts them. Where the
video has a `file_name`, its frames are read from that file; else each from its own, as in CocoVID.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from pipeline.datasets.image_files import load_rgb, read_splits
from pipeline.datasets.sample import Region, Sample, Source
from pipeline.datasets.video_files import load_frame
from pipeline.errors import InputError
from pipeline.geometry import LARGEST_COORDINATE, box_of_mask, xywh_to_xyxy
from pipeline.rle import decode_mask

_SPLIT_WORD = re.compile(r"(?<![a-z])(train|val|test)(?![a-z])", re.IGNORECASE)
#: Boxes may overhang their image by this much: tools round differently.
_OVERHANG_PX = 1.0
_NEEDED = {
    "videos": {"id": int},
    "categories": {"id": int, "name": str},
    "images": {"id": int, "file_name": str},
    "annotations": {"image_id": int, "category_id": int},
}


def matches(path: Path) -> bool:
    return bool(_files(path))


def read(path: Path) -> Source:
    files = _files(path)
    if len(files) > 1 and None in map(_split_of_name, files):
        names = ", ".join(file.name for file in files)
        raise InputError(path, f"several annotation files ({names})", "one, or names with train, val or test")
    contents = [_Content.read(file) for file in files]
    for content in contents[1:]:
        if content.names != contents[0].names:
            raise InputError(content.file, "other categories", f"those of {files[0].name}")
    samples: dict[str, Sample] = {}
    missing = []
    for content in contents:
        for image in content.images:
            place = content.find(content.source_of(image))
            if place is None:
                missing.append(image["file_name"])
                continue
            sample = content.sample(image, place)
            if sample.name in samples:  # x.png and x.jpg, or the same name in two files
                sample = replace(sample, name=f"{sample.name}_{content.file.stem}_{image['id']}")
            samples[sample.name] = sample
    # the images of a series stand together and in order, whatever the order in the file
    ordered = sorted(samples.values(), key=lambda sample: (sample.series or "", sample.slice_index or 0))
    modalities = {str(image["modality"]) for content in contents for image in content.images if "modality" in image}
    return Source(
        path.name if path.is_dir() else f"{path.parent.name}_{path.stem}",
        ", ".join(sorted(modalities)) or "unknown",
        tuple(contents[0].names.values()),
        tuple(ordered),
        tuple(missing),
    )


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" else []
    return sorted(path.glob("*.json")) or sorted((path / "annotations").glob("*.json"))


def _split_of_name(file: Path) -> str | None:
    word = _SPLIT_WORD.search(file.stem)
    return word[1].lower() if word else None


@dataclass(frozen=True)
class _Content:
    """One annotation file, checked.

    Attributes
    ----------
    names : {category id: class name}, in the order of the ids
    labels : {image id: its annotations}
    videos : {video id: what is said of it}
    splits : {patient: split} of a `splits.csv` beside the file
    """

    file: Path
    names: dict[int, str]
    images: list[dict]
    labels: dict[int, list[dict]]
    videos: dict[int, dict]
    splits: dict[str, str]

    @classmethod
    def read(cls, file: Path) -> _Content:
        content = _checked_json(file)
        categories = sorted(content["categories"], key=lambda category: category["id"])
        names = {category["id"]: category["name"] for category in categories}
        labels = {image["id"]: [] for image in content["images"]}
        for number, annotation in enumerate(content["annotations"]):
            which = f"annotation {annotation.get('id', number)}"
            image, category = annotation["image_id"], annotation["category_id"]
            if image not in labels:
                raise InputError(file, f"{which} is of unknown image {image!r}", "the id of one of its images")
            if category not in names:
                known = ", ".join(map(str, names))
                raise InputError(file, f"{which} has unknown category {category!r}", f"one of {known}")
            labels[image].append({"id": number, **annotation})
        videos = {video["id"]: video for video in content.get("videos") or ()}
        return cls(file, names, content["images"], labels, videos, read_splits(file.parent, "patient"))

    def source_of(self, image: dict) -> str:
        """The name of the file that an image is read from."""
        return self._video(image).get("file_name") or image["file_name"]

    def _video(self, image: dict) -> dict:
        """What is said of the video that an image is a frame of; nothing where it is of none."""
        number = image.get("video_id")
        if number is not None and number not in self.videos:
            found = f"{image['file_name']} is of unknown video {number!r}"
            raise InputError(self.file, found, "the id of one of its videos")
        return {} if number is None else self.videos[number]

    def find(self, file_name: str) -> Path | None:
        """The image's place, or None if it is in none of the usual ones."""
        folder = self.file.parent
        folders = [folder, folder.parent] if folder.name == "annotations" else [folder]
        places = [base / file_name for folder in folders for base in (folder, folder / "images")]
        return next((place for place in places if place.is_file()), None)

    def sample(self, image: dict, place: Path) -> Sample:
        name = _as_name(os.path.splitext(image["file_name"])[0])
        frame = None
        if self.source_of(image) != image["file_name"]:
            frame = image.get("frame_id")
            if not isinstance(frame, int):
                raise InputError(self.file, f"{image['file_name']} has frame_id {frame!r}", "a whole number from 0")
        about = self._of_video(image) | image
        patient = str(about.get("patient", name))
        split = self.splits.get(patient) or about.get("split") or _split_of_name(self.file)
        if split not in (None, "train", "val", "test"):
            raise InputError(self.file, f"{image['file_name']} has unknown split {split!r}", "train, val or test")
        series, index = about.get("series"), about.get("slice_index")
        if not isinstance(index, int | None):
            raise InputError(self.file, f"{image['file_name']} has slice_index {index!r}", "a whole number")
        series = None if series is None else _as_name(str(series))
        load = partial(_load, self.file, place, frame, image, self.labels[image["id"]], self.names)
        return Sample(name, patient, load, split, series, index)

    def _of_video(self, image: dict) -> dict:
        """What an image inherits of its video."""
        video = self._video(image)
        if not video:
            return {}
        name = os.path.splitext(str(video.get("file_name") or video.get("name") or f"video_{video['id']}"))[0]
        told = {key: video[key] for key in ("patient", "split") if key in video}
        return {"patient": name, "series": name, "slice_index": image.get("frame_id")} | told


def _checked_json(file: Path) -> dict[str, list[dict]]:
    """The file's content; its lists are there, with what is needed of each entry, and name nothing twice."""
    expected = "COCO JSON: lists named categories, images and annotations"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(file, f"unreadable ({error})", expected) from None
    for kind, needed in _NEEDED.items():
        entries = content.get(kind) if isinstance(content, dict) else None
        if kind == "videos" and entries is None:
            continue  # most sets have none
        if not isinstance(entries, list):
            raise InputError(file, f"lacks the list {kind}", expected)
        for number, entry in enumerate(entries):
            for key, its_type in needed.items():
                if not isinstance(entry, dict) or not isinstance(entry.get(key), its_type):
                    found = f"{kind}[{number}] is {_shortened(entry)}"
                    raise InputError(file, found, f"{key} of type {its_type.__name__} in each")
        for key in needed if kind != "annotations" else ():
            twice = [value for value, count in Counter(entry[key] for entry in entries).items() if count > 1]
            if twice:
                raise InputError(file, f"{kind} with the same {key} {twice[0]!r}", f"each {key} once")
    return content


def _shortened(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _as_name(text: str) -> str:
    """Text as one part of a path."""
    return re.sub(r"[/\\]+", "__", text)


def _load(
    file: Path,
    place: Path,
    frame: int | None,
    image: dict,
    annotations: list[dict],
    names: dict[int, str],
    *,
    every_pixel: bool = True,
) -> tuple[np.ndarray, list[Region]]:
    pixels = load_rgb(place) if frame is None else load_frame(place, frame)
    height, width = pixels.shape[:2]
    listed = image.get("width", width), image.get("height", height)
    if listed != (width, height):
        raise InputError(place, f"image of {width}x{height} pixels", f"{listed[0]}x{listed[1]}, as {file.name} says")
    regions = []
    for annotation in annotations:
        subject = f"{file}: annotation {annotation['id']} of {image['file_name']}"
        box = read_box(annotation.get("bbox"), width, height, subject)
        mask = read_mask(annotation.get("segmentation"), width, height, subject)
        if mask is not None:
            box = box_of_mask(mask)
        elif box is None:
            raise InputError(subject, "neither bbox nor segmentation", "one of them")
        regions.append(Region(names[annotation["category_id"]], box, mask))
    return pixels, regions


def read_box(bbox: list | None, width: int, height: int, subject: str) -> np.ndarray | None:
    """[x, y, width, height] -> float32 (4,) xyxy within the image; None where there is none."""
    if not bbox:
        return None
    expected = f"[x, y, width, height] within the {width}x{height} image"
    numbers = isinstance(bbox, list) and all(isinstance(v, int | float) and abs(v) <= LARGEST_COORDINATE for v in bbox)
    if not numbers or len(bbox) != 4 or min(bbox[2:]) <= 0:
        raise InputError(subject, f"bbox {_shortened(bbox)}", expected)
    box = xywh_to_xyxy(np.array(bbox, np.float64))[0]
    inside = box.clip(0, (width, height, width, height))
    if np.abs(box - inside).max() > _OVERHANG_PX or (inside[2:] <= inside[:2]).any():
        raise InputError(subject, f"bbox {_shortened(bbox)}", expected)
    return inside.astype(np.float32)


def read_mask(segmentation: list | dict | None, width: int, height: int, subject: str) -> np.ndarray | None:
    """Polygons or run lengths -> bool (H, W), not empty; None where there are none."""
    if not segmentation:
        return None
    if not isinstance(segmentation, list | dict):
        raise InputError(subject, f"segmentation {_shortened(segmentation)}", "polygons, or run lengths")
    if isinstance(segmentation, dict):
        mask = decode_mask(segmentation, width, height, subject)
    else:
        mask = _mask_of_polygons(segmentation, width, height, subject)
    if not mask.any():
        raise InputError(subject, "its mask is empty", f"a region within the {width}x{height} image")
    return mask


def _mask_of_polygons(polygons: list, width: int, height: int, subject: str) -> np.ndarray:
    for polygon in polygons:
        good = isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
        if not good or not all(isinstance(v, int | float) and abs(v) <= LARGEST_COORDINATE for v in polygon):
            raise InputError(subject, f"polygon {_shortened(polygon)}", "[x1, y1, x2, y2, x3, y3, ...]")
        points = np.array(polygon).reshape(-1, 2)
        if points.min() < -_OVERHANG_PX or (points.max(0) > (width + _OVERHANG_PX, height + _OVERHANG_PX)).any():
            raise InputError(subject, "a polygon outside its image", f"points within {width}x{height}")
    rle = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return decode_mask({"size": rle["size"], "counts": rle["counts"].decode("ascii")}, width, height, subject)
