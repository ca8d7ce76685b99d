"""Train YOLO-NAS-S from random weights on prepared images.

The defaults are the method's recipe: 640 pixels, 100 epochs, batch 4, learning rate 1e-3 (AdamW, cosine). An epoch is
as many samples as there are train images, each source drawn equally often.

`--init` also takes a release's onnx/fp32/detector.onnx, whose training weights may be gone: the detector then trains in
fused form (see `pipeline.training.fused_detector`), and ordinary weights are written.
"""

from __future__ import annotations

import argparse
import copy
from functools import partial

import cv2
import numpy as np
import torch
from torch.utils.data import IterableDataset

from pipeline.datasets.prepare import CANVAS
from pipeline.errors import InputError
from pipeline.training.architectures import build_detector
from pipeline.training.channel_levels import even_channels
from pipeline.training.collage import Collage
from pipeline.training.detection_metrics import evaluate_boxes
from pipeline.training.fit import Objective, add_fit_arguments, add_image_arguments, fit, read_splits, start
from pipeline.training.fused_detector import load_fused, ordinary_weights
from pipeline.training.mask_loss import HEAD, MaskHead, mask_loss
from pipeline.training.prepared import PreparedImage, parse_by_source
from pipeline.training.progress import device_and_precision, load_weights


class DetectorSamples(IterableDataset):
    """Endless augmented samples: image uint8 (3, S, S), targets float32 (N, 5) of class, centre x, y, width, height,
    regions uint8 (S, S) as `collage.View` has them."""

    def __init__(self, collage: Collage, seed: int):
        self.collage, self.seed = collage, seed

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((self.seed, worker.id if worker else 0))
        while True:
            view = self.collage.draw(rng)
            centres, sides = (view.boxes[:, :2] + view.boxes[:, 2:]) / 2, view.boxes[:, 2:] - view.boxes[:, :2]
            targets = np.concatenate([view.class_index[:, None], centres, sides], axis=1).astype(np.float32)
            yield view.pixels.transpose(2, 0, 1).copy(), targets, view.regions


def collate(samples: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> tuple[torch.Tensor, ...]:
    """Images uint8 (B, 3, S, S), targets (sum of N, 6) with the image's number in front, as super-gradients has it,
    regions uint8 (B, S, S)."""
    images, targets, regions = zip(*samples, strict=True)
    numbered = np.concatenate([np.insert(own, 0, number, axis=1) for number, own in enumerate(targets)])
    return (
        torch.from_numpy(np.stack(images)),
        torch.from_numpy(numbered).float(),
        torch.from_numpy(np.stack(regions)),
    )


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
        batch = even_channels(torch.from_numpy(pixels).permute(2, 0, 1)[None].to(device))
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
        found.append((corners[keep] * (CANVAS / size), kept[keep], class_index[order][keep]))
    return found


def train(arguments: argparse.Namespace) -> None:
    from super_gradients.training.losses import PPYoloELoss

    start(arguments)
    device, dtype = device_and_precision()
    train_split, val_split = read_splits(arguments)
    train_split.check_sources("--copy-paste", arguments.copy_paste)
    val_images = val_split.evenly(arguments.val_images)
    classes = train_split.classes
    fused = arguments.init is not None and arguments.init.suffix == ".onnx"
    model = load_fused(arguments.init, len(classes)) if fused else build_detector(len(classes))
    if arguments.init and not fused:
        load_weights(model, arguments.init)
    finest = _paint(model, len(classes)) if arguments.mask_loss else None
    model.to(device)
    # Channels last is 1.6 times as fast on a CPU. The stem stays out: a bfloat16 1x1 convolution of three channels with
    # stride 2 in that layout corrupts the heap (torch 2.13).
    model.backbone.stem.register_forward_hook(lambda *call: call[-1].contiguous(memory_format=torch.channels_last))
    loss_of = PPYoloELoss(num_classes=len(classes), use_static_assigner=False)

    def losses_of(batch: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
        images, targets, regions = batch
        images = even_channels(images)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            outputs = model(images)
            painted = model.get_submodule(HEAD)(finest.pop()) if arguments.mask_loss else None
        loss, parts = loss_of(raw_predictions(outputs), targets)
        losses = dict(zip(("loss_class", "loss_iou", "loss_dfl"), parts[:3], strict=True))
        if painted is not None:
            losses["loss_mask"] = mask_loss(painted, regions)
            loss = loss + arguments.mask_loss * losses["loss_mask"]
        return {"loss": loss} | losses

    def look_at_val(state: dict[str, torch.Tensor]) -> dict[str, float]:
        judge = _like(model, state).to(device)
        found = detect_all(judge, val_images, arguments.val_size or arguments.size, device, dtype)
        return evaluate_boxes(val_images, found, classes)

    def weights_of(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if not fused:
            return {name: value for name, value in state.items() if not name.startswith(HEAD)}
        side = arguments.size
        canvases = [cv2.resize(image.pixels(), (side, side), interpolation=cv2.INTER_AREA) for image in val_images[::8]]
        batch = even_channels(torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2))
        return ordinary_weights(_like(model, state).cpu().eval(), len(classes), batch.split(8))

    shares = (arguments.empty_share, arguments.mosaic, arguments.copy_paste, arguments.other_devices)
    collage = Collage(train_split, arguments.size, *shares)
    samples = partial(DetectorSamples, collage)
    objective = Objective("detector", samples, collate, losses_of, look_at_val, clip=10.0, weights_of=weights_of)
    fit(model, objective, arguments, len(train_split.images))


def _paint(model: torch.nn.Module, num_classes: int) -> list[torch.Tensor]:
    """Give a detector a head that paints regions; returns where its finest map lies after a call."""
    finest: list[torch.Tensor] = []
    channels = model.neck.out_channels[0]
    model.add_module(HEAD, MaskHead(channels, num_classes))

    def keep(_: torch.nn.Module, __: tuple, maps: tuple[torch.Tensor, ...]) -> None:
        finest[:] = [maps[0]]

    model.neck.register_forward_hook(keep)
    return finest


def _like(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """A copy of a module with other weights."""
    twin = copy.deepcopy(model)
    twin.load_state_dict(state)
    return twin


def add_arguments(parser: argparse.ArgumentParser) -> None:
    recipe = {"size": 640, "epochs": 100, "lr": 1e-3, "weight_decay": 1e-4, "empty_share": 0.15, "val_images": 30}
    add_image_arguments(parser)
    add_fit_arguments(parser, **recipe)
    text = "share of samples that are four images (default %(default)s)"
    parser.add_argument("--mosaic", type=float, default=0.0, metavar="SHARE", help=text)
    text = "share of a source's images that get another's regions pasted in, such as first=0.3"
    parser.add_argument("--copy-paste", type=parse_by_source, default={}, metavar="NAME=SHARE,...", help=text)
    text = "weight of a second loss, that of the regions' outlines, where the data has masks (default %(default)s)"
    parser.add_argument("--mask-loss", type=float, default=0.0, metavar="WEIGHT", help=text)
    parser.add_argument("--val-size", type=int, help="input side for val (default: --size)")


def run(arguments: argparse.Namespace) -> int:
    if arguments.size % 32 or arguments.size < 32:
        raise InputError("--size", str(arguments.size), "a multiple of 32")
    train(arguments)
    return 0
