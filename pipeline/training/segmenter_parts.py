"""SAM2 without its memory, as training runs it: embed images, decode box prompts, and the losses on both."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: ImageNet's, as SAM2 is trained with.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Embedding:
    """Of B images: vision (B, 256, S/16, S/16), high-resolution features (B, 32, S/4, S/4) and (B, 64, S/8, S/8)."""

    vision: Tensor
    high_res: tuple[Tensor, Tensor]


def embed(segmenter: nn.Module, images: Tensor) -> Embedding:
    """images uint8 (B, 3, S, S) -> Embedding."""
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) * 255 for v in (MEAN, STD))
    levels = segmenter.forward_image((images.float() - mean) / std)["backbone_fpn"]
    return Embedding(levels[-1] + segmenter.no_mem_embed.view(1, -1, 1, 1), (levels[0], levels[1]))


def decode(
    segmenter: nn.Module,
    embedding: Embedding,
    boxes: Tensor,
    image_of: Tensor,
    clicks: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """boxes float32 (N, 4) xyxy in input pixels, image_of int64 (N,), clicks float32 (N, K, 2) and their labels int64
    (N, K) -> mask logits (N, S/4, S/4), predicted IoU (N,), object score (N,). A box is two points with labels 2 and 3;
    the object score hides nothing here."""
    points = box_points(boxes)
    if clicks is not None:
        points = tuple(torch.cat(pair, dim=1) for pair in zip(points, clicks, strict=True))
    high_res = tuple(level[image_of] for level in embedding.high_res)
    return run_decoder(segmenter, Embedding(embedding.vision[image_of], high_res), points)[:3]


def box_points(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """boxes (N, 4) xyxy -> the two corners and their labels."""
    return boxes.view(-1, 2, 2), torch.tensor([[2, 3]], device=boxes.device).expand(len(boxes), 2)


def run_decoder(
    segmenter: nn.Module, embedding: Embedding, points: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """An embedding a prompt, points float32 (N, P, 2) and their labels int64 (N, P) -> what `decode` gives, and the
    mask token (N, 256) that it was drawn with."""
    sparse, dense = segmenter.sam_prompt_encoder(points=points, boxes=None, masks=None)
    masks, ious, tokens, objects = segmenter.sam_mask_decoder(
        image_embeddings=embedding.vision,
        image_pe=segmenter.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
        repeat_image=False,
        high_res_features=list(embedding.high_res),
    )
    return masks[:, 0].float(), ious[:, 0].float(), objects[:, 0].float(), tokens[:, 0].float()


def distillation_loss(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """(loss, mean cosine similarity) of embeddings (B, 256, H, W); the error is relative to the teacher's variance."""
    student = student.float()
    cosine = F.cosine_similarity(student, teacher, dim=1).mean()
    return F.mse_loss(student, teacher) / teacher.var().clamp(min=1e-6) + (1 - cosine), cosine.detach()


def mask_losses(
    logits: Tensor, ious: Tensor, objects: Tensor, truth: Tensor, boxes: Tensor, real: Tensor
) -> dict[str, Tensor]:
    """Losses of N prompts.

    logits (N, G, G); truth (N, G, G), the share of each cell that is inside, 0..1; boxes (N, 4) in grid cells; real
    bool (N,): false for a prompt on nothing, which only teaches the object score.

    Cross-entropy is balanced between inside and outside of the object, within the box enlarged by 15 %: over the whole
    image it would collapse to "all background".
    """
    zero = logits.sum() * 0
    losses = {"object": F.binary_cross_entropy_with_logits(objects, real.float())}
    if not real.any():
        return losses | {"dice": zero, "cross_entropy": zero, "iou": zero}
    logits, truth, boxes, ious = logits[real], truth[real], boxes[real], ious[real]
    inside = logits.sigmoid()
    overlap, total = (inside * truth).sum((1, 2)), (inside + truth).sum((1, 2))
    losses["dice"] = (1 - (2 * overlap + 1) / (total + 1)).mean()
    near = _inside_box(boxes, logits.shape[-1], enlarged=0.15)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    positive, negative = truth * near, (1 - truth) * near
    balanced = [(entropy * part).sum((1, 2)) / part.sum((1, 2)).clamp(min=1) for part in (positive, negative)]
    losses["cross_entropy"] = ((balanced[0] + balanced[1]) / 2).mean()
    with torch.no_grad():
        hard, true = logits > 0, truth >= 0.5
        actual = (hard & true).sum((1, 2)) / (hard | true).sum((1, 2)).clamp(min=1)
    losses["iou"] = F.mse_loss(ious, actual)
    return losses


def _inside_box(boxes: Tensor, grid: int, enlarged: float) -> Tensor:
    """float (N, G, G): 1 within each box, enlarged by a share of its sides."""
    margin = (boxes[:, 2:] - boxes[:, :2]) * enlarged
    low, high = boxes[:, :2] - margin, boxes[:, 2:] + margin
    centre = torch.arange(grid, device=boxes.device) + 0.5
    column = (centre >= low[:, :1]) & (centre <= high[:, :1])
    row = (centre >= low[:, 1:]) & (centre <= high[:, 1:])
    return (row[:, :, None] & column[:, None, :]).float()
