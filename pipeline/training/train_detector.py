"""Train YOLO-NAS-S from random weights on prepared images.

The defaults are the method's recipe: 640 pixels, 100 epochs, batch 4, learning rate 1e-3 (AdamW, cosine). An epoch is
as many samples as there are train images, each source drawn equally often.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from pipeline.errors import InputError
from pipeline.training.architectures import build_detector
from pipeline.training.augment import place, place_boxes, random_placement, vary_intensity
from pipeline.training.detection_metrics import evaluate_boxes
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


class DetectorSamples(IterableDataset):
    """Endless augmented samples: image uint8 (3, S, S), targets float32 (N, 5) of class, centre x, y, width, height."""

    def __init__(self, split: PreparedSplit, size: int, empty_share: float, seed: int):
        self.split, self.size, self.empty_share, self.seed = split, size, empty_share, seed

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((self.seed, worker.id if worker else 0))
        while True:
            yield self._sample(self.split.draw(rng, self.empty_share), rng)

    def _sample(self, image: PreparedImage, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        pixels = vary_intensity(image.pixels(), image.modality, rng)
        matrix = random_placement(self.size, len(pixels), rng, scales=(0.6, 1.5))
        boxes, keep = place_boxes(image.boxes, matrix, self.size)
        targets = np.zeros((len(boxes), 5), np.float32)
        targets[:, 0] = image.class_index[keep]
        targets[:, 1:3] = (boxes[:, :2] + boxes[:, 2:]) / 2
        targets[:, 3:5] = boxes[:, 2:] - boxes[:, :2]
        return place(pixels, matrix, self.size).transpose(2, 0, 1).copy(), targets


def collate(samples: list[tuple[np.ndarray, np.ndarray]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Images uint8 (B, 3, S, S), targets (sum of N, 6) with the image's number in front, as super-gradients has it."""
    numbered = [np.insert(targets, 0, number, axis=1) for number, (_, targets) in enumerate(samples)]
    return torch.from_numpy(np.stack([image for image, _ in samples])), torch.from_numpy(
        np.concatenate(numbered)
    ).float()


def raw_predictions(outputs: tuple) -> tuple:
    """The loss's six inputs in float32: under autocast some of them are bfloat16."""
    raw = outputs[1] if len(outputs) == 2 else outputs
    return tuple(part.float() if torch.is_tensor(part) else part for part in raw)


@torch.no_grad()
def detect_all(
    model: torch.nn.Module, images: list[PreparedImage], size: int, device: torch.device, dtype: torch.dtype
) -> list:
    """Per image the surest boxes after class-wise NMS: (boxes float32 (N, 4) in canvas pixels, scores, class_index)."""
    model.eval()
    found = []
    for image in images:
        pixels = cv2.resize(image.pixels(), (size, size), interpolation=cv2.INTER_AREA)
        batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(device).float() / 255
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            boxes, scores = model(batch)[0]
        boxes, scores = boxes[0].float().cpu().numpy(), scores[0].float().cpu().numpy()
        best, class_index = scores.max(-1), scores.argmax(-1)
        order = np.argsort(-best)[:300]
        order = order[best[order] > 0.01]
        corners, kept = boxes[order], best[order]
        sizes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        keep = cv2.dnn.NMSBoxesBatched(sizes.tolist(), kept.tolist(), class_index[order].tolist(), 0.01, 0.6)
        keep = np.asarray(keep, int).reshape(-1)[:50]
        found.append((corners[keep] * (640 / size), kept[keep], class_index[order][keep]))
    return found


def train(arguments: argparse.Namespace) -> None:
    from super_gradients.training.losses import PPYoloELoss

    torch.manual_seed(arguments.seed)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device, dtype = device_and_precision()
    train_split = PreparedSplit.read(arguments.data, "train", arguments.emphasis)
    val_split = PreparedSplit.read(arguments.data, "val")
    if not train_split.images:
        raise InputError(arguments.data / "train.json", "no images", "at least one train image")
    val_images = val_split.evenly(arguments.val_images)

    model = build_detector(len(train_split.classes)).to(device)
    if arguments.init:
        load_weights(model, arguments.init)
    # Channels last is 1.6 times as fast on a CPU. The stem stays out: a bfloat16 1x1 convolution of three channels with
    # stride 2 in that layout corrupts the heap (torch 2.13).
    model.backbone.stem.register_forward_hook(lambda *call: call[-1].contiguous(memory_format=torch.channels_last))
    average = MovingAverage(model, arguments.ema)
    optimizer = torch.optim.AdamW(parameter_groups(model, arguments.weight_decay), lr=arguments.lr)
    loss_of = PPYoloELoss(num_classes=len(train_split.classes), use_static_assigner=False)
    steps = arguments.epochs * math.ceil((arguments.samples or len(train_split.images)) / arguments.batch)
    budget = Budget(steps, arguments.minutes or math.inf, arguments.run_minutes or math.inf)

    checkpoint = arguments.out / "checkpoint.pt"
    if arguments.resume:
        state = read_checkpoint(checkpoint)
        model.load_state_dict(state["model"])
        average.state, average.updates = state["average"], state["updates"]
        optimizer.load_state_dict(state["optimizer"])
        budget.step, budget.seconds = state["step"], state["seconds"]

    samples = DetectorSamples(
        train_split, arguments.size, arguments.empty_share, seed=arguments.seed + 1000 * budget.step
    )
    loader = DataLoader(samples, arguments.batch, collate_fn=collate, num_workers=arguments.workers)
    log, saved, recent = arguments.out / "log.jsonl", time.monotonic(), []

    def keep(with_val: bool) -> None:
        parts = {"model": model.state_dict(), "average": average.state, "optimizer": optimizer.state_dict()}
        save_checkpoint(
            checkpoint, parts | {"updates": average.updates, "step": budget.step, "seconds": budget.seconds}
        )
        save_weights(average.state, arguments.out / "detector.safetensors")
        row = {"step": budget.step, "minutes": budget.seconds / 60, "lr": optimizer.param_groups[0]["lr"]}
        row |= dict(
            zip(
                ("loss_class", "loss_iou", "loss_dfl", "loss"),
                np.mean(recent or [[np.nan] * 4], 0).tolist(),
                strict=True,
            )
        )
        if with_val and val_images:
            judge = build_detector(len(train_split.classes)).to(device)
            judge.load_state_dict(average.state)
            found = detect_all(judge, val_images, arguments.val_size or arguments.size, device, dtype)
            row |= evaluate_boxes(val_images, found, train_split.classes)
        log_row(log, **row)
        recent.clear()

    model.train()
    evaluated = time.monotonic()
    for images, targets in loader:
        if budget.run_over:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(budget, arguments.lr, arguments.warmup)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            outputs = model(images.to(device).float() / 255)
        loss, parts = loss_of(raw_predictions(outputs), targets.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        average.update(model)
        budget.tick()
        recent.append(parts.tolist())
        if time.monotonic() - saved > 60 * arguments.save_minutes:
            with_val = time.monotonic() - evaluated > 60 * arguments.val_minutes
            keep(with_val)
            saved = time.monotonic()
            evaluated = saved if with_val else evaluated
    keep(with_val=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="what `prepare` wrote")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="checkpoint, weights and log go here")
    parser.add_argument("--init", type=Path, metavar="FILE", help="start from these weights instead of random ones")
    parser.add_argument("--resume", action="store_true", help="go on from --out's checkpoint")
    parser.add_argument("--size", type=int, default=640, help="side of the input in pixels (default 640)")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--samples", type=int, help="samples an epoch (default: as many as train images)")
    parser.add_argument("--minutes", type=float, help="end the schedule after this much training time, if sooner")
    parser.add_argument("--run-minutes", type=float, help="stop this run then; --resume goes on with the same schedule")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--warmup", type=int, default=200, help="steps until the full learning rate (default 200)")
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--ema", type=float, default=0.998, help="decay of the averaged weights (default 0.998)")
    parser.add_argument(
        "--empty-share", type=float, default=0.15, help="share of images without any region, where a source has them"
    )
    text = "draw these sources so much oftener than the others, such as first=2,second=0.5"
    parser.add_argument("--emphasis", type=parse_emphasis, metavar="NAME=N,...", help=text)
    parser.add_argument("--val-images", type=int, default=30, help="val images a source, each with and without regions")
    parser.add_argument("--val-size", type=int, help="input side for val (default: --size)")
    parser.add_argument("--val-minutes", type=float, default=10, help="minutes between two looks at val")
    parser.add_argument("--save-minutes", type=float, default=3, help="minutes between two checkpoints")
    parser.add_argument("--workers", type=int, default=0, help="processes that load images beside the training")
    parser.add_argument("--threads", type=int, help="torch's threads (default: all cores)")
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> int:
    if arguments.size % 32 or arguments.size < 32:
        raise InputError("--size", str(arguments.size), "a multiple of 32")
    train(arguments)
    return 0
