"""Train SAM2.1 Hiera-T, MedSAM2's architecture, on prepared images with jittered boxes as prompts.

Without `--init` it starts from LiteMedSAM's decoder. A training from there takes two commands: first
`--objective distill` (images alone: the encoder learns to give LiteMedSAM's embedding), then `--objective masks
--init` with the result. `--init` also takes the official checkpoints of MedSAM2 and Medical SAM 2, and a release's
onnx/fp32/image_encoder.onnx (see `pipeline.training.released_segmenter`).
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import IterableDataset

from pipeline.errors import InputError
from pipeline.geometry import box_of_mask
from pipeline.training.architectures import SEGMENTER_SIZE, build_segmenter
from pipeline.training.augment import near_placement, place, random_turn, squash_placement, turn, vary_intensity
from pipeline.training.fit import Objective, add_fit_arguments, add_image_arguments, fit, read_splits, start
from pipeline.training.lite_medsam import TeacherCache, warm_start
from pipeline.training.prepared import PreparedImage, PreparedSplit
from pipeline.training.progress import device_and_precision
from pipeline.training.released_segmenter import start_segmenter
from pipeline.training.segmenter_parts import decode, distillation_loss, embed, mask_losses

#: Weights of the mask losses in their sum.
LOSS_WEIGHTS = {"dice": 1.0, "cross_entropy": 1.0, "iou": 0.5, "object": 0.1}
#: What a single-image release uses; the memory modules keep their start and are left out of the optimizer.
IMAGE_PARTS = ("image_encoder", "sam_prompt_encoder", "sam_mask_decoder", "no_mem_embed")


def jitter(box: np.ndarray, size: int, rng: np.random.Generator, spread: float) -> np.ndarray:
    """A box (4,) xyxy as a detector might give it: each side off by about `spread` of the box's width or height."""
    extent = np.tile(box[2:] - box[:2], 2)
    moved = box + rng.normal(0, spread, 4).clip(-2 * spread, 2 * spread) * extent
    moved = moved.clip(0, size)
    return (moved if (moved[2:] - moved[:2]).min() >= 2 else box).astype(np.float32)


class MaskSamples(IterableDataset):
    """Endless samples: image uint8 (3, S, S), boxes (N, 4) in input pixels, truth float32 (N, G, G), real bool (N,).

    Up to `prompts` regions an image; an image without any, and now and then another, gives a box on nothing. A share of
    `near` shows the surroundings of the regions instead of the whole image.
    """

    def __init__(
        self,
        split: PreparedSplit,
        size: int,
        empty_share: float,
        spread: float,
        prompts: int,
        near: float,
        other_devices: float,
        seed: int,
    ):
        self.split, self.size, self.empty_share, self.spread = split, size, empty_share, spread
        self.prompts, self.near, self.other_devices, self.seed = prompts, near, other_devices, seed

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((self.seed, worker.id if worker else 0))
        while True:
            yield self._sample(self.split.draw(rng, self.empty_share), rng)

    def _sample(self, image: PreparedImage, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        size, grid = self.size, self.size // 4
        with_masks = [index for index, rle in enumerate(image.rles) if rle is not None]
        chosen = rng.permutation(with_masks)[: self.prompts].astype(int)
        if len(chosen) and rng.random() < self.near:
            around = np.concatenate([image.boxes[chosen, :2].min(0), image.boxes[chosen, 2:].max(0)])
            matrix = near_placement(around, image.content, size, rng)
        else:
            matrix = squash_placement(image.content, size, rng)
        matrix = turn(matrix, random_turn(image.modality, rng, self.other_devices), size)
        varied = vary_intensity(image.pixels(), image.modality, rng, self.other_devices)
        pixels = place(varied, matrix, size)
        boxes, truths, real = [], [], []
        for index in chosen:
            mask = place(image.mask(index).astype(np.uint8) * 255, matrix, size)
            box = box_of_mask(mask > 127)
            if (box[2:] - box[:2]).min() >= 4:
                boxes.append(jitter(box, size, rng, self.spread * rng.uniform(0, 2)))
                truths.append(cv2.resize(mask, (grid, grid), interpolation=cv2.INTER_AREA) / np.float32(255))
                real.append(True)
        if not boxes:
            corner = rng.uniform(0, 0.7, 2)
            far = corner + rng.uniform(0.1, 0.3, 2)
            boxes.append((np.concatenate([corner, far]) * size).astype(np.float32))
            truths.append(np.zeros((grid, grid), np.float32))
            real.append(False)
        return pixels.transpose(2, 0, 1).copy(), np.stack(boxes), np.stack(truths).astype(np.float32), np.array(real)


def collate_masks(samples: list[tuple[np.ndarray, ...]]) -> tuple[torch.Tensor, ...]:
    """images (B, 3, S, S), boxes (N, 4), image_of (N,), truth (N, G, G), real (N,)."""
    image_of = np.concatenate([np.full(len(boxes), number) for number, (_, boxes, _, _) in enumerate(samples)])
    parts = [np.concatenate([sample[part] for sample in samples]) for part in (1, 2, 3)]
    images = np.stack([sample[0] for sample in samples])
    return tuple(torch.from_numpy(a) for a in (images, parts[0], image_of, parts[1], parts[2]))


class TeacherSamples(IterableDataset):
    """Endless samples of the teacher's cache: image uint8 (3, S, S) as the teacher saw it, embedding (256, 32, 32)."""

    def __init__(self, cache: Path, split: PreparedSplit, size: int, seed: int):
        self.cache, self.split, self.size, self.seed = TeacherCache.read(cache), split, size, seed

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((self.seed, worker.id if worker else 0))
        while True:
            for number in rng.permutation(len(self.cache.image)):
                image = self.split.images[self.cache.image[number]]
                pixels = place(image.pixels(), self.cache.matrix[number] * self.size, self.size)
                yield vary_intensity(pixels, "", rng).transpose(2, 0, 1).copy(), self.cache.embedding[number].copy()


@torch.no_grad()
def evaluate_masks(
    segmenter: torch.nn.Module, images: list[PreparedImage], size: int, device: torch.device, dtype: torch.dtype
) -> dict:
    """Dice with true boxes, union of an image's masks on the squashed input, mean a source and over sources."""
    segmenter.eval()
    dice: dict[str, list[float]] = {}
    for image in images:
        matrix = squash_placement(image.content, size, None)
        pixels = torch.from_numpy(place(image.pixels(), matrix, size).transpose(2, 0, 1).copy())[None].to(device)
        masks = [place(image.mask(i).astype(np.uint8) * 255, matrix, size) > 127 for i in range(len(image.rles))]
        boxes = torch.from_numpy(np.stack([box_of_mask(mask) for mask in masks])).to(device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits, _, _ = decode(
                segmenter, embed(segmenter, pixels), boxes, torch.zeros(len(boxes), dtype=torch.long, device=device)
            )
        logits = torch.nn.functional.interpolate(logits[None], size=(size, size), mode="bilinear", align_corners=False)[
            0
        ]
        found, true = (logits > 0).any(0).cpu().numpy(), np.any(masks, axis=0)
        dice.setdefault(image.source, []).append(2 * (found & true).sum() / max(1, found.sum() + true.sum()))
    means = {f"val_dice_{source}": float(np.mean(of)) for source, of in sorted(dice.items())}
    return {"val_dice": float(np.mean(list(means.values()))), **means}


def with_total(losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The mask losses, and under "loss" their weighted sum."""
    return {"loss": sum(LOSS_WEIGHTS[name] * value for name, value in losses.items()), **losses}


def train(arguments: argparse.Namespace) -> None:
    start(arguments)
    device, dtype = device_and_precision()
    train_split, val_split = read_splits(arguments)
    val_images = [i for i in val_split.evenly(arguments.val_images, empty=False) if len(i.rles) and None not in i.rles]
    segmenter = build_segmenter(arguments.size)
    if arguments.init:
        start_segmenter(segmenter, arguments.init)
    else:
        warm_start(segmenter)
    segmenter.to(device)
    for name, parameter in segmenter.named_parameters():
        parameter.requires_grad_(name.startswith(IMAGE_PARTS))

    def distillation(batch: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
        images, wanted = batch
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            vision = embed(segmenter, images).vision
        wanted = torch.nn.functional.adaptive_avg_pool2d(wanted.float(), vision.shape[-1])
        loss, cosine = distillation_loss(vision, wanted)
        return {"loss": loss, "cosine": cosine}

    def masks(batch: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
        images, boxes, image_of, truth, real = batch
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits, ious, objects = decode(segmenter, embed(segmenter, images), boxes, image_of)
        return with_total(mask_losses(logits, ious, objects, truth, boxes / 4, real))

    def look_at_val(state: dict[str, torch.Tensor]) -> dict[str, float]:
        judge = build_segmenter(arguments.size).to(device)
        judge.load_state_dict(state)
        return evaluate_masks(judge, val_images, arguments.size, device, dtype) if val_images else {}

    if arguments.objective == "distill":
        cache = arguments.teacher_cache or arguments.out / "teacher"
        TeacherCache.build(cache, train_split, arguments.teacher_images, arguments.empty_share, arguments.seed, device)
        samples, learn = partial(TeacherSamples, cache, train_split, arguments.size), (None, distillation)
    else:
        options = (arguments.empty_share, arguments.jitter, arguments.prompts, arguments.near, arguments.other_devices)
        samples, learn = partial(MaskSamples, train_split, arguments.size, *options), (collate_masks, masks)
    objective = Objective("segmenter", samples, *learn, look_at_val, clip=1.0, betas=(0.9, 0.98))
    fit(segmenter, objective, arguments, len(train_split.images))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    recipe = {"epochs": 20, "lr": 2e-4, "weight_decay": 0.01, "empty_share": 0.1, "val_images": 15}
    add_image_arguments(parser)
    add_fit_arguments(parser, size=SEGMENTER_SIZE, **recipe)
    add = parser.add_argument
    add("--objective", choices=("masks", "distill"), default="masks", help="what is learned (default %(default)s)")
    add("--teacher-images", type=int, default=2000, help="images that LiteMedSAM embeds (default %(default)s)")
    add("--teacher-cache", type=Path, metavar="DIR", help="where those embeddings lie (default: OUT/teacher)")
    text = "how far a prompt's sides are off, in sizes of the box (default %(default)s)"
    add("--jitter", type=float, default=0.06, help=text)
    text = "share of samples that show a region's surroundings, not the whole image (default %(default)s)"
    add("--near", type=float, default=0.0, metavar="SHARE", help=text)
    add("--prompts", type=int, default=2, help="regions an image at most (default %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    if arguments.size % 128 or arguments.size < 128:
        raise InputError("--size", str(arguments.size), "a multiple of 128")
    train(arguments)
    return 0
