"""The files of a volume or a video: its label map, its objects, its overlay and its JSON."""

from __future__ import annotations

import json
from pathlib import Path, PurePath

import nibabel
import numpy as np
from av.error import FFmpegError

from hub.files import replace_file, replace_path
from pipeline.measures import longest_diameter_mm, volume_ml
from pipeline.result_files import unwritable
from pipeline.scratch import scratch_array
from pipeline.stack import Stack
from pipeline.stack_overlay import contact_sheet, write_overlay_video
from pipeline.tracks import Tracking

_ENDS = {
    "volume": ("_seg.nii.gz", "_objects.nii.gz", "_overlay.png", ".json"),
    "video": ("_seg.npz", "_overlay.mp4", ".json"),
}


def stack_result_paths(folder: Path, name: PurePath, kind: str) -> list[Path]:
    """Where `write_stack_files` puts what a "volume" or a "video" gives; the JSON is last."""
    stem = folder / name
    return [stem.with_name(stem.name + end) for end in _ENDS[kind]]


def write_stack_files(folder: Path, name: PurePath, file: str, stack: Stack, tracking: Tracking) -> None:
    """Write the files of a volume or a video below `folder`, which is made where it lacks.

    Of a volume: `<name>_seg.nii.gz`, class ids, and `<name>_objects.nii.gz`, numbers of the objects from 1 in the order
    of the JSON, both voxel on voxel as the input with its affine; and `<name>_overlay.png`, a contact sheet. Of a
    video: `<name>_seg.npz` with `labels` and `objects`, (N, H, W) each, and `<name>_overlay.mp4`. Of both
    `<name>.json`.

    Each file appears whole or not at all. The JSON is last: where it stands, the input is done.

    Raises
    ------
    InputError
        Where the folder can't be made or written to, or the disk is full.
    """
    paths = stack_result_paths(folder, name, stack.kind)
    record = paths[-1]
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        if stack.kind == "volume":
            _write_volume(*paths[:3], stack, tracking)
        else:
            _write_video(*paths[:2], stack, tracking)
        with replace_file(record) as out:
            out.write(json.dumps(to_json(file, stack, tracking), indent=1) + "\n")
    except (OSError, FFmpegError) as error:
        raise unwritable(record.parent, error) from error


def to_json(file: str, stack: Stack, tracking: Tracking) -> dict:
    """The JSON of a volume or a video. Slices and frames are numbered from 0."""
    return {
        "file": file,
        "shape": list(tracking.shape),
        "kind": stack.kind,
        "axis": stack.axis,
        "spacing_mm": None if stack.spacing_mm is None else [round(mm, 6) for mm in stack.spacing_mm],
        "frame_seconds": stack.frame_seconds,
        "precision": tracking.precision,
        "weights": dict(tracking.weights),
        "memory": tracking.memory,
        "notes": list(stack.notes),
        "objects": [_object_json(stack, tracking, number) for number in range(len(tracking.tracks))],
        "timings_ms": {stage: round(ms, 2) for stage, ms in tracking.timings_ms.items()},
    }


def _object_json(stack: Stack, tracking: Tracking, number: int) -> dict:
    track = tracking.tracks[number]
    first, last = track.span
    found = {
        "label": track.label,
        "class_id": track.class_id,
        "score": round(track.score, 4),
        "span": [first, last],
        "key_frames": list(track.key_frames),
        "frame_scores": {str(frame): round(score, 4) for frame, score in sorted(track.frame_scores.items())},
    }
    if stack.kind == "video":
        return {**found, "area_px": [track.area_px(frame) for frame in range(first, last + 1)]}
    steps, volume, diameter = stack.steps_mm, None, None
    if steps is not None:
        volume = round(volume_ml(tracking, number, steps), 4)
        diameter = round(longest_diameter_mm(tracking, number, steps), 3)
    return {**found, "volume_ml": volume, "longest_diameter_mm": diameter}


def _maps(stack: Stack, tracking: Tracking) -> tuple[np.ndarray, np.ndarray]:
    """Class ids, uint8 (N, H, W), and numbers of the objects; of a long video in temporary files."""
    labels = scratch_array(stack.path, tracking.shape, np.uint8)
    objects = scratch_array(stack.path, tracking.shape, tracking.object_type)
    for index in range(len(stack)):
        if tracking.in_frame(index):
            labels[index], objects[index] = tracking.label_map(index), tracking.object_map(index)
    return labels, objects


def _write_volume(seg: Path, objects: Path, sheet: Path, stack: Stack, tracking: Tracking) -> None:
    for path, values in zip((seg, objects), _maps(stack, tracking), strict=True):
        with replace_path(path) as temporary:
            nibabel.save(stack.to_file(values, "AutoMedSeg, research software"), temporary)
    with replace_file(sheet, "wb") as out:
        contact_sheet(stack, tracking).save(out, format="PNG")


def _write_video(seg: Path, overlay: Path, stack: Stack, tracking: Tracking) -> None:
    labels, objects = _maps(stack, tracking)
    with replace_file(seg, "wb") as out:
        np.savez_compressed(out, labels=labels, objects=objects)
    with replace_path(overlay) as temporary:
        write_overlay_video(temporary, stack, tracking)
