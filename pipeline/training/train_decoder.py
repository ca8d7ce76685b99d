"""Train the mask decoder alone, on cached features: the encoder's own embedding, and boxes as the chain gives them.

The encoder stays as it is, so a sample costs a hundredth of what it costs with it. Prompts are true boxes thrown off
and the detector's own boxes, the false ones too: they teach the object score. In half of the batches up to three clicks
on what the box alone got wrong follow, as a person would correct it (SAM's interactive training).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from pipeline.errors import InputError
from pipeline.geometry import box_iou
from pipeline.training.architectures import build_segmenter
from pipeline.training.clicks import click_loss, click_on_errors
from pipeline.training.feature_cache import FeatureCache, Features
from pipeline.training.fit import Objective, add_fit_arguments, fit, start
from pipeline.training.progress import device_and_precision
from pipeline.training.released_segmenter import start_segmenter
from pipeline.training.segmenter_parts import Embedding, decode, mask_losses
from pipeline.training.train_segmenter import with_total

#: Parts that learn here.
_PARTS = ("sam_prompt_encoder", "sam_mask_decoder")
#: From this IoU on, a detector's box stands for the true one; below the other, for nothing.
_SAME, _NOTHING = 0.5, 0.1
#: Share of prompts that are the detector's own boxes, where it has some that serve.
_DETECTED = 0.4
#: Share of batches with clicks, and how many those have at most.
_CLICKED, _MOST_CLICKS = 0.5, 3
#: Weight of the clicked cells' loss beside the masks'.
_CLICK_WEIGHT = 0.2


class PromptSamples(IterableDataset):
    """Endless samples: the three feature maps, boxes (N, 4) in input pixels, truth (N, G, G) 0..1, real bool (N,)."""

    def __init__(self, features: Features, prompts: int, seed: int):
        self.features, self.prompts, self.seed = features, prompts, seed

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        rng = np.random.default_rng(self.seed)
        while True:
            cache = self.features.split("train")  # which may have grown
            for number in rng.permutation(len(cache)):
                yield self._sample(cache, number, rng)

    def _sample(self, cache: FeatureCache, number: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        found, regions = cache.counts[number]
        proposals, truth = cache.proposals[number, :found, :4], cache.regions[number, :regions, :4]
        masks, grid = cache.masks[number], cache.masks.shape[-1]
        overlap = box_iou(proposals, truth) if regions else np.zeros((found, 1))
        boxes, truths, real = [], [], []
        for index in rng.permutation(regions)[: self.prompts]:
            near = np.flatnonzero(overlap[:, index] >= _SAME)
            if len(near) and rng.random() < _DETECTED:
                box = proposals[rng.choice(near)]
            else:
                box = throw(truth[index][None], rng, rng.choice([0.02, 0.05, 0.1]))[0]
            boxes.append(box)
            truths.append(masks[index] / np.float32(255))
            real.append(True)
        false = np.flatnonzero(overlap.max(1) < _NOTHING) if found else []
        if len(false) and (not boxes or rng.random() < 0.15):
            boxes.append(proposals[rng.choice(false)])
            truths.append(np.zeros((grid, grid), np.float32))
            real.append(False)
        if not boxes:
            boxes.append(np.array([0.2, 0.2, 0.5, 0.5]) * grid * 4)
            truths.append(np.zeros((grid, grid), np.float32))
            real.append(False)
        return (
            *cache.maps(number),
            np.stack(boxes).astype(np.float32),
            np.stack(truths).astype(np.float32),
            np.array(real),
        )


def collate(samples: list[tuple[np.ndarray, ...]]) -> tuple[Tensor, ...]:
    """features (B, ...) three times, boxes (N, 4), image_of (N,), truth (N, G, G), real (N,)."""
    image_of = np.concatenate([np.full(len(sample[3]), number) for number, sample in enumerate(samples)])
    features = [np.stack([sample[part] for sample in samples]) for part in range(3)]
    boxes, truth, real = (np.concatenate([sample[part] for sample in samples]) for part in (3, 4, 5))
    return tuple(torch.from_numpy(a) for a in (*features, boxes, image_of, truth, real))


def throw(boxes: np.ndarray, rng: np.random.Generator, spread: float) -> np.ndarray:
    """Boxes (N, 4) with each side off by about `spread` of the box's width or height."""
    extent = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return boxes + rng.normal(0, spread, boxes.shape) * extent


@torch.no_grad()
def evaluate_decoder(segmenter: torch.nn.Module, cache: FeatureCache) -> dict[str, float]:
    """Dice on the grid with true boxes, with boxes thrown off by 6 %, and with one click on what those got wrong; the
    union of an image's masks, by class."""
    segmenter.eval()
    dice: dict[tuple[str, int], list[float]] = {}
    rng = np.random.default_rng(0)
    for number in range(len(cache)):
        regions = cache.counts[number, 1]
        if not regions:
            continue
        truth = cache.regions[number, :regions]
        features = [torch.from_numpy(part)[None] for part in cache.maps(number)]
        for name, boxes in (("true", truth[:, :4]), ("thrown", throw(truth[:, :4], rng, 0.06))):
            boxes = torch.from_numpy(boxes.astype(np.float32))
            given = Embedding(features[0], (features[1], features[2])), boxes, torch.zeros(regions, dtype=torch.long)
            logits, _, _ = decode(segmenter, *given)
            inside = torch.from_numpy(cache.masks[number, :regions] / np.float32(255))
            results = {name: logits}
            if name == "thrown":
                results["clicked"] = decode(segmenter, *given, click_on_errors(logits, inside, None))[0]
            true = (inside >= 0.5).any(0).numpy()
            for key, masks in results.items():
                found = (masks > 0).any(0).numpy()
                value = 2 * (found & true).sum() / max(1, found.sum() + true.sum())
                dice.setdefault((key, int(truth[0, 4])), []).append(value)
    row = {f"dice_{name}_{label}": float(np.mean(of)) for (name, label), of in sorted(dice.items())}
    for name in ("true", "thrown", "clicked"):
        row[f"dice_{name}"] = float(np.mean([value for key, value in row.items() if key.startswith(f"dice_{name}_")]))
    return row


def train(arguments: argparse.Namespace) -> None:
    start(arguments)
    device, dtype = device_and_precision()
    if arguments.init is None:
        raise InputError("--init", "no weights", "the segmenter's weights that the features' release was made of")
    features = Features.open(arguments.data)
    segmenter = build_segmenter(features.size)
    start_segmenter(segmenter, arguments.init)
    segmenter.to(device)
    val = features.split("val")
    for name, parameter in segmenter.named_parameters():
        parameter.requires_grad_(name.startswith(_PARTS))

    rng = np.random.default_rng(arguments.seed)

    @torch.no_grad()
    def clicks_of(given: tuple[Embedding, Tensor, Tensor], truth: Tensor) -> tuple[Tensor, Tensor] | None:
        """What a person might click on after seeing the masks so far, a click after the other; None for none."""
        clicks = None
        for _ in range(rng.integers(1, _MOST_CLICKS + 1) if rng.random() < _CLICKED else 0):
            click = click_on_errors(decode(segmenter, *given, clicks)[0], truth, rng)
            clicks = click if clicks is None else tuple(torch.cat(pair, 1) for pair in zip(clicks, click, strict=True))
        return clicks

    def losses_of(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        embedding, high_res_0, high_res_1, boxes, image_of, truth, real = batch
        given = Embedding(embedding, (high_res_0, high_res_1)), boxes, image_of
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            clicks = clicks_of(given, truth)
            logits, ious, objects = decode(segmenter, *given, clicks)
        losses = with_total(mask_losses(logits, ious, objects, truth, boxes / 4, real))
        if clicks is None:
            return losses | {"click": losses["loss"].detach() * 0}
        click = click_loss(logits, clicks)
        return losses | {"loss": losses["loss"] + _CLICK_WEIGHT * click, "click": click}

    def look_at_val(state: dict[str, Tensor]) -> dict[str, float]:
        judge = build_segmenter(features.size)
        judge.load_state_dict(state)
        return evaluate_decoder(judge, val)

    samples = partial(PromptSamples, features, arguments.prompts)
    objective = Objective("segmenter", samples, collate, losses_of, look_at_val, clip=1.0, betas=(0.9, 0.98))
    fit(segmenter, objective, arguments, len(features.split("train")))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_fit_arguments(parser, data="what `features` wrote", epochs=10, lr=2e-4, weight_decay=0.01, batch=8)
    parser.add_argument("--prompts", type=int, default=2, help="regions an image at most (default %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    train(arguments)
    return 0
