"""Clips of labelled sequences, and what the image encoder makes of their frames, computed once: the dear part of
training the memory.

A clip is some frames of a sequence in order, forwards or backwards, of one object that lies in the first of them. All
of its frames are looked at through one window: the surroundings of wherever the object is in the clip, or the whole
image; train clips are mirrored, turned and changed in intensity, all frames alike.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from hub.files import replace_file
from pipeline.datasets.sequences import LabelledFrames, LabelledSequence, sequences
from pipeline.errors import InputError
from pipeline.geometry import Resize, box_of_mask
from pipeline.runtime import open_session
from pipeline.training.augment import place, random_turn, turn, vary_intensity
from pipeline.training.config import read_object
from pipeline.training.progress import device_and_precision
from pipeline.training.segmenter_parts import embed

#: uint8 (T, S, S, 3) -> three feature maps (T, ...), in the decoder's order.
Encode = Callable[[np.ndarray], Iterable[np.ndarray]]
#: What is known of an object in a frame.
UNKNOWN, ABSENT, PRESENT = 0, 1, 2
#: Share of train clips that show the whole image, and how much longer than the object the windows of the others are.
_WHOLE, _FACTORS = 0.2, (1.3, 3.0)
#: The window of val clips.
_VAL_FACTOR = 2.0
#: Share of train clips that take every second frame, and of those that begin near an end of the object.
_SPARSE, _NEAR_END = 0.3, 0.4
#: A first frame has at least this share of the object's largest area.
_LEAST_FIRST = 0.1
_SAVED_EVERY = 10
_ABOUT = "clips.json"
_EXPECTED = "a folder that `python -m pipeline train memory` wrote"


@dataclass(frozen=True)
class Clip:
    """One clip, before the encoder sees it.

    Attributes
    ----------
    images : uint8 (T, S, S, 3)
    boxes : float32 (T, 4), xyxy in pixels of the input, zero where the object is not known to be present
    masks : uint8 (T, S/4, S/4), the share of each cell that is inside, 0..255
    state : uint8 (T,), UNKNOWN, ABSENT or PRESENT
    """

    images: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray
    state: np.ndarray


@dataclass(frozen=True)
class ClipCache:
    """Clips and their features, memory-mapped; see `Clip` for boxes, masks and state.

    Attributes
    ----------
    source : int64 (M,), place in the list of sources
    embedding, high_res_0, high_res_1 : float16 (M, T, 256, S/16, S/16), (M, T, 32, S/4, S/4), (M, T, 64, S/8, S/8)
    """

    source: np.ndarray
    embedding: np.ndarray
    high_res_0: np.ndarray
    high_res_1: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray
    state: np.ndarray

    def __len__(self) -> int:
        return len(self.source)

    @classmethod
    def read(cls, folder: Path) -> ClipCache:
        """What is there so far."""
        try:
            done = int((folder / "done.txt").read_text())
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r")[:done] for name in cls.__annotations__}
        except (OSError, ValueError) as error:
            raise InputError(folder, f"no clips ({error})", _EXPECTED) from None
        return cls(**arrays)


def find_sequences(folder: Path, split: str) -> list[LabelledSequence]:
    """The sequences of a split in a data set, or in all data sets of a folder that have some."""
    found = []
    for candidate in [folder, *sorted(path for path in folder.iterdir() if path.is_dir())] if folder.is_dir() else []:
        try:
            found += sequences(candidate, split)
        except InputError as error:
            if error.problem != "no data set with sequences":
                raise
    if not found:
        raise InputError(folder, f"no sequences of the {split} split", "a data set with sequences, or a folder of such")
    return found


def draw_clip(
    labelled: LabelledFrames, modality: str, size: int, frames: int, rng: np.random.Generator, *, loops: bool = False
) -> Clip | None:
    """A random clip; None where the sequence has nothing to begin with. `loops`: the last frame is followed by the
    first, as in a heart's cycle."""
    order = _draw_order(labelled, frames, rng, loops=loops)
    if order is None:
        return None
    pixels, masks, known = _pick(labelled, order)
    height, width = pixels.shape[1:3]
    boxes = np.stack([box_of_mask(mask) for mask in masks[known & masks.any((1, 2))]])
    if rng.random() < _WHOLE:
        resize = Resize.plan(width, height, size, "squash")
    else:
        side = (boxes[:, 2:].max(0) - boxes[:, :2].min(0)).max()
        thrown = boxes + np.tile(rng.normal(0, 0.08, 2) * side, 2).astype(np.float32)
        resize = Resize.around(thrown, width, height, size, np.exp(rng.uniform(*np.log(_FACTORS))))
    matrix = _matrix(resize)
    if rng.random() < 0.5:
        matrix[0] = -matrix[0] + (0, 0, size)
    matrix = turn(matrix, random_turn(modality, rng), size)
    seed = int(rng.integers(2**63))
    pixels = [vary_intensity(frame, modality, np.random.default_rng(seed)) for frame in pixels]
    clip = _look(pixels, masks, known, matrix, size)
    return clip if clip.state[0] == PRESENT else None


def plain_clip(labelled: LabelledFrames, size: int, frames: int, step: int) -> Clip | None:
    """The clip that begins where the object is largest; `step` -1 goes backwards, 2 takes every second frame."""
    areas = np.where(labelled.labelled, labelled.masks.sum((1, 2)), 0)
    if not areas.any():
        return None
    order = _continued(int(areas.argmax()), step, frames, len(areas), loops=False)
    pixels, masks, known = _pick(labelled, order)
    boxes = np.stack([box_of_mask(mask) for mask in masks[known & masks.any((1, 2))]])
    resize = Resize.around(boxes, pixels.shape[2], pixels.shape[1], size, _VAL_FACTOR)
    clip = _look(list(pixels), masks, known, _matrix(resize), size)
    return clip if clip.state[0] == PRESENT else None


def _draw_order(
    labelled: LabelledFrames, frames: int, rng: np.random.Generator, *, loops: bool
) -> list[tuple[int, bool]] | None:
    areas = np.where(labelled.labelled, labelled.masks.sum((1, 2)), 0)
    starts = np.flatnonzero(areas > _LEAST_FIRST * areas.max())
    if not len(starts):
        return None
    step = int(rng.choice([-1, 1])) * (2 if rng.random() < _SPARSE and len(areas) >= 2 * frames else 1)
    if rng.random() < _NEAR_END:
        end = starts.max() if step > 0 else starts.min()
        near = starts[np.abs(starts - end) < abs(step) * frames - 1]
        start = int(rng.choice(near)) if len(near) else int(end)
    else:
        start = int(rng.choice(starts, p=areas[starts] / areas[starts].sum()))
    return _continued(start, step, frames, len(areas), loops=loops)


def _continued(start: int, step: int, frames: int, length: int, *, loops: bool) -> list[tuple[int, bool]]:
    """(frame, whether it is there): a clip that leaves its sequence stays at its end, which then says nothing."""
    wanted = start + step * np.arange(frames)
    if loops:
        return [(int(index % length), True) for index in wanted]
    return [(int(index.clip(0, length - 1)), bool(0 <= index < length)) for index in wanted]


def _pick(labelled: LabelledFrames, order: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(uint8 (T, H, W, 3), masks bool (T, H, W), whether they count bool (T,))."""
    index, there = (np.array(part) for part in zip(*order, strict=True))
    pixels = labelled.frames[index]
    pixels = pixels if pixels.ndim == 4 else np.repeat(pixels[..., None], 3, axis=3)
    return pixels, labelled.masks[index], labelled.labelled[index] & there


def _matrix(resize: Resize) -> np.ndarray:
    """A resize as affine matrix (2, 3)."""
    return np.column_stack([np.diag(resize.scale), resize.content[:2]])


def _look(pixels: Sequence[np.ndarray], masks: np.ndarray, known: np.ndarray, matrix: np.ndarray, size: int) -> Clip:
    images, boxes, shares, state = [], [], [], []
    grid = size // 4
    for frame, mask, labelled in zip(pixels, masks, known, strict=True):
        images.append(place(frame, matrix, size))
        shown = place(mask.astype(np.uint8) * 255, matrix, size)
        box = box_of_mask(shown > 127)
        present = labelled and (box[2:] - box[:2]).min() >= 2
        state.append(PRESENT if present else ABSENT if labelled and not mask.any() else UNKNOWN)
        boxes.append(box if present else np.zeros(4, np.float32))
        shares.append(cv2.resize(shown, (grid, grid), interpolation=cv2.INTER_AREA))
    return Clip(np.stack(images), np.stack(boxes), np.stack(shares), np.array(state, np.uint8))


@dataclass(frozen=True)
class Clips:
    """A folder of cached clips: 'train' and 'val', and what they were made with."""

    folder: Path
    sources: tuple[str, ...]
    size: int

    def split(self, name: str) -> ClipCache:
        """'train' or 'val'."""
        return ClipCache.read(self.folder / name)


def torch_encoder(segmenter: nn.Module) -> Encode:
    """The network as it is trained, in bfloat16 where the processor has it."""
    device, dtype = device_and_precision()

    @torch.no_grad()
    def encode(images: np.ndarray) -> Iterator[np.ndarray]:
        segmenter.eval()
        stacked = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            seen = embed(segmenter, stacked)
        return (feature.float().cpu().numpy() for feature in (seen.vision, *seen.high_res))

    return encode


def graph_encoder(path: Path, threads: int | None) -> Encode:
    """A release's image_encoder.onnx: what the memory will be given, and in int8 several times as fast."""
    session = open_session(path, threads)

    def encode(images: np.ndarray) -> Iterator[np.ndarray]:
        frames = [session.run(None, {"image": image[None]}) for image in images]
        return (np.concatenate(part) for part in zip(*frames, strict=True))

    return encode


def cache_clips(
    folder: Path,
    encode: Encode,
    weights: Path,
    data: Path,
    *,
    size: int,
    clips: int,
    val_sequences: int,
    frames: int,
    seed: int,
) -> Clips:
    """Draw and embed clips, or go on where a run before this one stopped.

    Parameters
    ----------
    encode
        What looks at the frames, input `size` pixels.
    weights
        Where its weights come from; a cache of others is refused.
    clips
        Train clips, evenly over the sources.
    val_sequences
        Val sequences a source at most; each gives a clip either way.
    """
    train, val = find_sequences(data, "train"), find_sequences(data, "val")
    sources = tuple(sorted({one.source for one in train}))
    about = {"sources": list(sources), "size": size, "frames": frames, "weights": _digest(weights)}
    path = folder / _ABOUT
    if path.is_file() and read_object(path, _EXPECTED) != about:
        raise InputError(folder, "holds clips of other weights, data or options", "another folder for --cache")
    folder.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as file:
        json.dump(about, file, indent=1)
    made = Clips(folder, sources, size)
    plans = [(one, step) for one in _evenly(val, val_sequences) for step in (1, -1)]
    _fill(made, "val", encode, [_ValPlan(*plan, size, frames) for plan in plans], frames)
    by_source = [[one for one in train if one.source == source] for source in sources]
    drawn = [_TrainPlan(by_source[n % len(by_source)], size, frames, (seed, n)) for n in range(clips)]
    _fill(made, "train", encode, drawn, frames)
    return made


@dataclass(frozen=True)
class _TrainPlan:
    candidates: list[LabelledSequence]
    size: int
    frames: int
    seed: tuple[int, int]

    def clip(self) -> tuple[str, Clip]:
        rng = np.random.default_rng(self.seed)
        for _ in range(100):
            one = self.candidates[rng.integers(len(self.candidates))]
            clip = draw_clip(one.load(), one.modality, self.size, self.frames, rng, loops=one.kind == "video")
            if clip is not None:
                return one.source, clip
        raise InputError(self.candidates[0].source, "no object to begin a clip with", "sequences with labelled objects")


@dataclass(frozen=True)
class _ValPlan:
    sequence: LabelledSequence
    direction: int
    size: int
    frames: int

    def clip(self) -> tuple[str, Clip] | None:
        labelled = self.sequence.load()
        step = 2 if labelled.masks.any((1, 2)).sum() > 3 * self.frames else 1
        clip = plain_clip(labelled, self.size, self.frames, step * self.direction)
        return None if clip is None else (self.sequence.source, clip)


def _fill(made: Clips, split: str, encode: Encode, plans: Sequence, frames: int) -> None:
    folder = made.folder / split
    folder.mkdir(exist_ok=True)
    done_path = folder / "done.txt"
    rows = int(done_path.read_text()) if done_path.is_file() else 0
    plan_path = folder / "plan.txt"
    first = int(plan_path.read_text()) if plan_path.is_file() else 0
    if first >= len(plans):
        return
    arrays = _arrays(folder, len(plans), frames, made.size, rows)
    for number in tqdm(range(first, len(plans)), desc=f"{split} clips", mininterval=10):
        drawn = plans[number].clip()
        if drawn is not None and PRESENT in drawn[1].state[1:]:
            _write(arrays, rows, made.sources.index(drawn[0]), drawn[1], encode)
            rows += 1
        if number % _SAVED_EVERY == _SAVED_EVERY - 1 or number + 1 == len(plans):
            for array in arrays.values():
                array.flush()
            done_path.write_text(str(rows))
            plan_path.write_text(str(number + 1))


def _arrays(folder: Path, count: int, frames: int, size: int, kept: int) -> dict[str, np.ndarray]:
    """Files for `count` clips; what the first `kept` rows hold already stays."""
    shapes = {
        "source": (np.int64, ()),
        "embedding": (np.float16, (frames, 256, size // 16, size // 16)),
        "high_res_0": (np.float16, (frames, 32, size // 4, size // 4)),
        "high_res_1": (np.float16, (frames, 64, size // 8, size // 8)),
        "boxes": (np.float32, (frames, 4)),
        "masks": (np.uint8, (frames, size // 4, size // 4)),
        "state": (np.uint8, (frames,)),
    }
    arrays = {}
    for name, (dtype, shape) in shapes.items():
        path = folder / f"{name}.npy"
        held = np.load(path, mmap_mode="r") if path.is_file() else None
        if held is not None and len(held) == count:
            arrays[name] = np.lib.format.open_memmap(path, "r+")
            continue
        grown = np.lib.format.open_memmap(path.with_suffix(".new.npy"), "w+", dtype, (count, *shape))
        if held is not None:
            grown[:kept] = held[:kept]
        path.with_suffix(".new.npy").replace(path)
        arrays[name] = grown
    return arrays


def _write(arrays: dict[str, np.ndarray], row: int, source: int, clip: Clip, encode: Encode) -> None:
    for name, feature in zip(("embedding", "high_res_0", "high_res_1"), encode(clip.images), strict=True):
        arrays[name][row] = feature
    arrays["source"][row] = source
    arrays["boxes"][row], arrays["masks"][row], arrays["state"][row] = clip.boxes, clip.masks, clip.state


def _evenly(found: Sequence[LabelledSequence], count: int) -> list[LabelledSequence]:
    """At most `count` sequences a source, evenly spaced in it."""
    by_source = defaultdict(list)
    for one in found:
        by_source[one.source].append(one)
    return [
        own[index]
        for own in by_source.values()
        for index in np.unique(np.linspace(0, len(own) - 1, min(count, len(own))).round().astype(int))
    ]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
