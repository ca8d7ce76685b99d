"""Train SAM2.1 Hiera-T, MedSAM2's architecture, on prepared images with jittered boxes as prompts.

Without `--init` it starts from LiteMedSAM's decoder. A training from there takes two commands: first
`--objective distill` (images alone: the encoder learns to give LiteMedSAM's embedding), then `--objective masks
--init` with the result. `--init` also takes the official checkpoints of MedSAM2 and Medical SAM 2.
"""

from __future__ import annotations

import argparse
import math
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from pipeline.errors import InputError
from pipeline.geometry import box_of_mask
from pipeline.training.architectures import SEGMENTER_SIZE, build_segmenter
from pipeline.training.augment import place, squash_placement, vary_intensity
from pipeline.training.lite_medsam import TeacherCache, warm_start
from pipeline.training.prepared import PreparedImage, PreparedSplit, parse_emphasis
from pipeline.training.progress import (
    Budget,
    MovingAverage,
    device_and_precision,
    learning_rate,
    load_weights,
    log_row,
    parameter_groups,
    read_checkpoint,
    save_checkpoint,
    save_weights,
)
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

    Up to `prompts` regions an image; an image without any, and now and then another, gives a box on nothing.
    """

    def __init__(self, split: PreparedSplit, size: int, empty_share: float, spread: float, prompts: int, seed: int):
        self.split, self.size, self.empty_share, self.spread = split, size, empty_share, spread
        self.prompts, self.seed = prompts, seed

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((self.seed, worker.id if worker else 0))
        while True:
            yield self._sample(self.split.draw(rng, self.empty_share), rng)

    def _sample(self, image: PreparedImage, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        size, grid = self.size, self.size // 4
        matrix = squash_placement(image.content, size, rng)
        pixels = place(vary_intensity(image.pixels(), image.modality, rng), matrix, size)
        boxes, truths, real = [], [], []
        with_masks = [index for index, rle in enumerate(image.rles) if rle is not None]
        for index in rng.permutation(with_masks)[: self.prompts].astype(int):
            mask = place(image.mask(index).astype(np.uint8) * 255, matrix, size)
            box = box_of_mask(mask > 127)
            if (box[2:] - box[:2]).min() >= 4:
                boxes.append(jitter(box, size, rng, self.spread))
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


def train(arguments: argparse.Namespace) -> None:
    torch.manual_seed(arguments.seed)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device, dtype = device_and_precision()
    train_split = PreparedSplit.read(arguments.data, "train", arguments.emphasis)
    val_split = PreparedSplit.read(arguments.data, "val")
    if not train_split.images:
        raise InputError(arguments.data / "train.json", "no images", "at least one train image")
    val_images = [i for i in val_split.evenly(arguments.val_images, empty=False) if len(i.rles) and None not in i.rles]

    segmenter = build_segmenter(arguments.size)
    if arguments.init:
        load_weights(segmenter, arguments.init)
    else:
        warm_start(segmenter)
    segmenter.to(device)
    for name, parameter in segmenter.named_parameters():
        parameter.requires_grad_(name.startswith(IMAGE_PARTS))
    distilling = arguments.objective == "distill"
    if distilling:
        cache = arguments.teacher_cache or arguments.out / "teacher"
        TeacherCache.build(cache, train_split, arguments.teacher_images, arguments.empty_share, arguments.seed, device)
        samples = partial(TeacherSamples, cache, train_split, arguments.size)
    else:
        options = (arguments.empty_share, arguments.jitter, arguments.prompts)
        samples = partial(MaskSamples, train_split, arguments.size, *options)

    average = MovingAverage(segmenter, arguments.ema)
    optimizer = torch.optim.AdamW(
        parameter_groups(segmenter, arguments.weight_decay), lr=arguments.lr, betas=(0.9, 0.98)
    )
    steps = arguments.epochs * math.ceil((arguments.samples or len(train_split.images)) / arguments.batch)
    budget = Budget(steps, arguments.minutes or math.inf, arguments.run_minutes or math.inf)
    checkpoint = arguments.out / "checkpoint.pt"
    if arguments.resume:
        state = read_checkpoint(checkpoint)
        segmenter.load_state_dict(state["model"])
        average.state, average.updates = state["average"], state["updates"]
        optimizer.load_state_dict(state["optimizer"])
        budget.step, budget.seconds = state["step"], state["seconds"]

    loader = DataLoader(
        samples(seed=arguments.seed + 1000 * budget.step),
        arguments.batch,
        collate_fn=None if distilling else collate_masks,
        num_workers=arguments.workers,
    )
    recent: list[dict[str, float]] = []

    def keep(with_val: bool) -> None:
        parts = {"model": segmenter.state_dict(), "average": average.state, "optimizer": optimizer.state_dict()}
        save_checkpoint(
            checkpoint, parts | {"updates": average.updates, "step": budget.step, "seconds": budget.seconds}
        )
        save_weights(average.state, arguments.out / "segmenter.safetensors")
        row = {"step": budget.step, "minutes": budget.seconds / 60, "lr": optimizer.param_groups[0]["lr"]}
        for name in recent[0] if recent else ():
            row[name] = float(np.mean([losses[name] for losses in recent]))
        if with_val and val_images:
            judge = build_segmenter(arguments.size).to(device)
            judge.load_state_dict(average.state)
            row |= evaluate_masks(judge, val_images, arguments.size, device, dtype)
        log_row(arguments.out / "log.jsonl", **row)
        recent.clear()

    def losses_of(batch: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            embedding = embed(segmenter, batch[0])
            if not distilling:
                logits, ious, objects = decode(segmenter, embedding, batch[1], batch[2])
        if distilling:
            teacher = torch.nn.functional.adaptive_avg_pool2d(batch[1].float(), embedding.vision.shape[-1])
            loss, cosine = distillation_loss(embedding.vision, teacher)
            return {"loss": loss, "cosine": cosine}
        losses = mask_losses(logits, ious, objects, batch[3], batch[1] / 4, batch[4])
        return {"loss": sum(LOSS_WEIGHTS[name] * value for name, value in losses.items()), **losses}

    segmenter.train()
    saved = evaluated = time.monotonic()
    for batch in loader:
        if budget.run_over:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(budget, arguments.lr, arguments.warmup)
        losses = losses_of(tuple(part.to(device) for part in batch))
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(segmenter.parameters(), 1.0)
        optimizer.step()
        average.update(segmenter)
        budget.tick()
        recent.append({name: value.item() for name, value in losses.items()})
        if time.monotonic() - saved > 60 * arguments.save_minutes:
            with_val = time.monotonic() - evaluated > 60 * arguments.val_minutes
            keep(with_val)
            saved = time.monotonic()
            evaluated = saved if with_val else evaluated
    keep(with_val=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="what `prepare` wrote")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="checkpoint, weights and log go here")
    parser.add_argument("--init", type=Path, metavar="FILE", help="start from .safetensors or an official MedSAM2 .pt")
    parser.add_argument("--resume", action="store_true", help="go on from --out's checkpoint")
    parser.add_argument(
        "--objective", choices=("masks", "distill"), default="masks", help="what is learned (default masks)"
    )
    parser.add_argument("--teacher-images", type=int, default=2000, help="images that LiteMedSAM embeds for distill")
    parser.add_argument("--teacher-cache", type=Path, metavar="DIR", help="where those lie (default: OUT/teacher)")
    parser.add_argument(
        "--size", type=int, default=SEGMENTER_SIZE, help=f"side of the input (default {SEGMENTER_SIZE})"
    )
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--samples", type=int, help="samples an epoch (default: as many as train images)")
    parser.add_argument("--minutes", type=float, help="end the schedule after this much training time, if sooner")
    parser.add_argument("--run-minutes", type=float, help="stop this run then; --resume goes on with the same schedule")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--warmup", type=int, default=200, help="steps until the full learning rate (default 200)")
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--ema", type=float, default=0.998, help="decay of the averaged weights (default 0.998)")
    parser.add_argument(
        "--empty-share", type=float, default=0.1, help="share of images without any region, where a source has them"
    )
    parser.add_argument(
        "--jitter", type=float, default=0.06, help="how far a prompt's sides are off, in box sizes (default 0.06)"
    )
    parser.add_argument("--prompts", type=int, default=2, help="regions an image at most (default 2)")
    text = "draw these sources so much oftener than the others, such as first=2,second=0.5"
    parser.add_argument("--emphasis", type=parse_emphasis, metavar="NAME=N,...", help=text)
    parser.add_argument("--val-images", type=int, default=15, help="val images a source")
    parser.add_argument("--val-minutes", type=float, default=10, help="minutes between two looks at val")
    parser.add_argument("--save-minutes", type=float, default=3, help="minutes between two checkpoints")
    parser.add_argument("--workers", type=int, default=0, help="processes that load images beside the training")
    parser.add_argument("--threads", type=int, help="torch's threads (default: all cores)")
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> int:
    if arguments.size % 128 or arguments.size < 128:
        raise InputError("--size", str(arguments.size), "a multiple of 128")
    train(arguments)
    return 0
