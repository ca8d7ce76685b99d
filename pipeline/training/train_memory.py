"""Train MedSAM2's memory on sequences: memory attention, memory encoder, object pointers, and the object score.

Image encoder, prompt encoder and mask decoder stay as they are; what the encoder makes of the clips is computed once
(`--cache`). Of a clip's frames the first is prompted with its true box, thrown off a little; every later one is
conditioned on what was made of the frames before it and decoded without a prompt, or (`--carried`) with the box of the
mask before or one as a detector gives it. Now and then a later frame is prompted as a single image, too. Clips run past
the ends of the object, which teaches the object score; unlabelled frames are passed through without a loss.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from pipeline.errors import InputError
from pipeline.training.architectures import build_segmenter
from pipeline.training.clip_cache import (
    ABSENT,
    PRESENT,
    UNKNOWN,
    ClipCache,
    Clips,
    cache_clips,
    graph_encoder,
    torch_encoder,
)
from pipeline.training.fit import Objective, add_fit_arguments, fit, start
from pipeline.training.memory_parts import (
    MEMORY_PARTS,
    SCORE_HEAD,
    Decoded,
    box_points,
    boxes_of,
    follow,
    start_afresh,
    without_dropout,
)
from pipeline.training.progress import device_and_precision, read_weights
from pipeline.training.released_segmenter import start_segmenter
from pipeline.training.segmenter_parts import Embedding, mask_losses, run_decoder
from pipeline.training.train_decoder import throw

#: Weights of the losses in their sum.
LOSS_WEIGHTS = {"dice": 1.0, "cross_entropy": 1.0, "iou": 0.1, "object": 0.5}
#: Share of batches in which a later frame is prompted, too.
_PROMPTED_AGAIN = 0.25
#: Share of the frames with carried boxes in which a detector saw the object, so that its own box is at hand.
_SEEN = 0.5
#: Share of batches that remember the true presence of the object: a score head that has yet to learn would hide it.
_PRESENCE_TOLD = 0.5
#: How far a prompt's sides are off, in sizes of the box.
_SPREADS = (0.02, 0.05, 0.1)
#: Clips that the closing LayerNorm is fitted on.
_FITTED_ON = 48
_BATCH = 8


class ClipSamples(IterableDataset):
    """Endless samples: features of a clip, boxes (T, 4), masks (T, G, G) 0..1, state (T,), prompts (T, 4)."""

    def __init__(self, clips: Clips, seed: int):
        self.clips, self.seed = clips, seed

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        rng = np.random.default_rng(self.seed)
        while True:
            cache = self.clips.split("train")
            for number in rng.permutation(len(cache)):
                boxes = cache.boxes[number]
                prompts = throw(boxes, rng, rng.choice(_SPREADS)).astype(np.float32)
                yield (*clip_arrays(cache, number), prompts)


def clip_arrays(cache: ClipCache, number: int) -> tuple[np.ndarray, ...]:
    """Three feature maps (T, ...) float32, boxes (T, 4), masks float32 (T, G, G) 0..1, state int64 (T,)."""
    features = [array[number].astype(np.float32) for array in (cache.embedding, cache.high_res_0, cache.high_res_1)]
    masks = cache.masks[number] / np.float32(255)
    return *features, np.array(cache.boxes[number]), masks, cache.state[number].astype(np.int64)


def clip_losses(
    segmenter: nn.Module,
    batch: tuple[Tensor, ...],
    again: int | None = None,
    *,
    carry_boxes: bool = False,
    seen: tuple[int, ...] = (),
    there: dict[int, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Losses over the frames of a batch that are labelled and not prompted, and their weighted sum under "loss".

    again : a frame that is prompted, beside the first, if the object is in it in the whole batch; None for none.
    carry_boxes, there : as `follow` takes them.
    seen : frames in which, if boxes are carried, the object's own box thrown off a little is taken where it is present.
    """
    embedding, high_res_0, high_res_1, boxes, masks, state, thrown = batch
    prompts = {0: thrown[:, 0]}
    if again is not None and bool((state[:, again] == PRESENT).all()):
        prompts[again] = thrown[:, again]
    clip = Embedding(embedding, (high_res_0, high_res_1))
    own = {frame: (thrown[:, frame], state[:, frame] == PRESENT) for frame in seen}
    found = follow(segmenter, clip, prompts, carry_boxes=carry_boxes, seen=own, there=there)
    parts: list[tuple[Tensor, ...]] = []
    for frame, decoded in enumerate(found):
        known = state[:, frame] != UNKNOWN
        if frame not in prompts:  # there the frozen decoder sees what it always saw
            drawn = decoded.mask_logits, decoded.ious, decoded.objects
            wanted = masks[:, frame], boxes[:, frame] / 4, state[:, frame] == PRESENT
            parts.append(tuple(part[known] for part in (*drawn, *wanted)))
    joined = [torch.cat(part) for part in zip(*parts, strict=True)]
    if len(joined[0]):
        losses = mask_losses(*joined)
    else:
        losses = dict.fromkeys(LOSS_WEIGHTS, sum(decoded.objects.sum() for decoded in found) * 0)
    return {"loss": sum(LOSS_WEIGHTS[name] * value for name, value in losses.items()), **losses}


@torch.no_grad()
def evaluate_memory(segmenter: nn.Module, clips: Clips) -> dict[str, float]:
    """Over the later frames of val clips, on the grid: Dice a source and over sources. `memory`: carried masks, without
    any prompt; `carried`: with the box of the mask before as well. Beside them three that have no memory: the first
    mask kept (`copy`), each frame prompted with the box of the mask before (`chain`), each frame prompted with its true
    box (`box`). And the share of frames whose object score is right, of those with the object and of those without."""
    segmenter.eval()
    cache = clips.split("val")
    dice: dict[tuple[str, str], list[float]] = {}
    right: dict[tuple[str, int], list[bool]] = {}
    for first in range(0, len(cache), _BATCH):
        numbers = range(first, min(first + _BATCH, len(cache)))
        arrays = [np.stack(part) for part in zip(*(clip_arrays(cache, number) for number in numbers), strict=True)]
        *features, boxes, masks, state = map(torch.from_numpy, arrays)
        results = _ways(segmenter, Embedding(features[0], (features[1], features[2])), boxes)
        for name, (drawn, shown) in results.items():
            for frame in range(1, boxes.shape[1]):
                for row, number in enumerate(numbers):
                    known, there = int(state[row, frame]), bool(shown[row, frame])
                    if known != UNKNOWN and name in ("memory", "carried"):
                        right.setdefault((name, known), []).append(there == (known == PRESENT))
                    if known == PRESENT:
                        true, mask = masks[row, frame] >= 0.5, drawn[row, frame] & there
                        value = float(2 * (mask & true).sum() / (mask.sum() + true.sum()).clamp(min=1))
                        dice.setdefault((name, clips.sources[cache.source[number]]), []).append(value)
    row: dict[str, float] = {}
    for name in ("memory", "carried", "copy", "chain", "box"):
        by_source = {source: float(np.mean(of)) for (other, source), of in sorted(dice.items()) if other == name}
        row[f"val_{name}"] = float(np.mean(list(by_source.values())))
        row |= {f"val_{name}_{source}": value for source, value in by_source.items()}
    words = {PRESENT: "present", ABSENT: "absent"}
    row |= {f"val_{name}_{words[known]}": float(np.mean(of)) for (name, known), of in sorted(right.items())}
    return {"val_dice": max(row["val_memory"], row["val_carried"]), **row}


def _ways(segmenter: nn.Module, clip: Embedding, boxes: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Way to outline the frames of clips -> masks bool (N, T, G, G), and whether the object is said to be there, bool
    (N, T)."""
    device, dtype = device_and_precision()
    clip = Embedding(clip.vision.to(device), tuple(level.to(device) for level in clip.high_res))
    boxes = boxes.to(device)
    frames = range(boxes.shape[1])
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        found = {name: follow(segmenter, clip, {0: boxes[:, 0]}, carry_boxes=name == "carried") for name in _MEMORIES}
        found["box"] = [_decode(segmenter, clip, frame, boxes[:, frame]) for frame in frames]
        found["chain"], last = [], boxes[:, 0]
        for frame in frames:
            found["chain"].append(_decode(segmenter, clip, frame, last))
            last = boxes_of(found["chain"][-1].mask_logits > 0, last, segmenter.image_size)
    found["copy"] = [found["box"][0]] * len(frames)
    return {
        name: (
            torch.stack([decoded.mask_logits > 0 for decoded in of], 1).cpu(),
            torch.stack([(decoded.objects > 0) | (name not in _MEMORIES) for decoded in of], 1).cpu(),
        )
        for name, of in found.items()
    }


_MEMORIES = ("memory", "carried")


def _decode(segmenter: nn.Module, clip: Embedding, frame: int, boxes: Tensor) -> Decoded:
    """A frame as a single image."""
    here = Embedding(clip.vision[:, frame], tuple(level[:, frame] for level in clip.high_res))
    return Decoded(*run_decoder(segmenter, here, box_points(boxes)))


def train(arguments: argparse.Namespace) -> None:
    start(arguments)
    if arguments.init is None:
        raise InputError("--init", "no weights", "the segmenter's weights: .safetensors, .pt, or a released graph")
    device, dtype = device_and_precision()
    segmenter = build_segmenter(arguments.size)
    start_segmenter(segmenter, arguments.init)
    segmenter.to(device)
    encoder = arguments.encoder
    clips = cache_clips(
        arguments.cache or arguments.out / "clips",
        graph_encoder(encoder, arguments.threads) if encoder else torch_encoder(segmenter),
        encoder or arguments.init,
        arguments.data,
        size=arguments.size,
        clips=arguments.clips,
        val_sequences=arguments.val_sequences,
        frames=arguments.frames,
        seed=arguments.seed,
    )
    cached = clips.split("train")
    if arguments.memory:
        _take_memory(segmenter, arguments.memory)
    else:
        some = np.linspace(0, len(cached) - 1, min(len(cached), _FITTED_ON)).round().astype(int)
        start_afresh(segmenter, torch.from_numpy(cached.embedding[some, 0].astype(np.float32)).to(device))
    without_dropout(segmenter)
    whole = {name: value.detach().clone() for name, value in segmenter.state_dict().items()}
    segmenter.image_encoder.trunk = nn.Identity()  # its work is cached
    for name, parameter in segmenter.named_parameters():
        parameter.requires_grad_(name.startswith((*MEMORY_PARTS, SCORE_HEAD)))
    rng = np.random.default_rng(arguments.seed)

    def losses_of(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        state = batch[5]
        again = int(rng.integers(2, state.shape[1])) if rng.random() < _PROMPTED_AGAIN else None
        carry = rng.random() < arguments.carried
        seen = tuple(frame for frame in range(1, state.shape[1]) if rng.random() < _SEEN)
        there = None
        if rng.random() < _PRESENCE_TOLD:
            told = [frame for frame in range(1, state.shape[1]) if bool((state[:, frame] != UNKNOWN).all())]
            there = {frame: state[:, frame] == PRESENT for frame in told}
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return clip_losses(segmenter, batch, again, carry_boxes=carry, seen=seen, there=there)

    def look_at_val(state: dict[str, Tensor]) -> dict[str, float]:
        judge = copy.deepcopy(segmenter)
        judge.load_state_dict(state)
        return evaluate_memory(judge, clips)

    objective = Objective(
        "segmenter",
        partial(ClipSamples, clips),
        None,
        losses_of,
        look_at_val,
        clip=1.0,
        betas=(0.9, 0.98),
        weights_of=lambda state: whole | state,
    )
    fit(segmenter, objective, arguments, len(cached))


def _take_memory(segmenter: nn.Module, path: Path) -> None:
    """The memory and the score head of another training, onto this segmenter."""
    state = {n: v for n, v in read_weights(path).items() if n.startswith((*MEMORY_PARTS, SCORE_HEAD))}
    own = segmenter.state_dict()
    wanted = [name for name in own if name.startswith((*MEMORY_PARTS, SCORE_HEAD))]
    if any(name not in state or state[name].shape != own[name].shape for name in wanted):
        raise InputError(path, "no memory in it", "what `python -m pipeline train memory` wrote")
    segmenter.load_state_dict(state, strict=False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    recipe = {"epochs": 30, "lr": 5e-4, "weight_decay": 0.01, "warmup": 50, "ema": 0.99}
    add_fit_arguments(parser, data="a data set with sequences, or a folder of such", **recipe)
    add = parser.add_argument
    add("--size", type=int, default=256, help="side of the segmenter's input in pixels (default %(default)s)")
    add("--cache", type=Path, metavar="DIR", help="where the clips lie, 0.5 MB a frame (default: OUT/clips)")
    text = "look at the clips through this image_encoder.onnx of the same weights; int8 is fastest (default: --init's)"
    add("--encoder", type=Path, metavar="FILE", help=text)
    add("--clips", type=int, default=300, help="train clips, evenly over the sources (default %(default)s)")
    add("--frames", type=int, default=8, help="frames a clip (default %(default)s)")
    text = "val sequences a source at most, each gives two clips (default %(default)s)"
    add("--val-sequences", type=int, default=10, help=text)
    text = "share of batches whose later frames get boxes: the last mask's, or as a detector's (default %(default)s)"
    add("--carried", type=float, default=0.5, metavar="SHARE", help=text)
    text = "start from the memory of this training rather than afresh; may be --init's own file"
    add("--memory", type=Path, metavar="FILE", help=text)


def run(arguments: argparse.Namespace) -> int:
    if arguments.size % 128 or arguments.size < 128:
        raise InputError("--size", str(arguments.size), "a multiple of 128")
    if arguments.frames < 3:
        raise InputError("--frames", str(arguments.frames), "3 or more")
    train(arguments)
    return 0
