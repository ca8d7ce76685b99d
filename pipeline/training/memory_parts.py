"""SAM2's memory, as training runs it: condition a frame on what is remembered, decode it, remember it.

The same arithmetic as SAM2Base's `_prepare_memory_conditioned_features` and `_encode_new_memory`, for N objects at
once, with ages that are plain distances, so that it works forwards and backwards alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from sam2.modeling.sam2_utils import get_1d_sine_pe
from torch import Tensor, nn

from pipeline.memory import POINTERS, RECENT_FRAMES
from pipeline.training.segmenter_parts import Embedding, box_points, run_decoder

#: The parts of SAM2Base that only sequences need; names of tensors start so.
MEMORY_PARTS = (
    *(
        "memory_attention.",
        "memory_encoder.",
        "maskmem_tpos_enc",
        "no_mem_pos_enc",
        "obj_ptr_proj.",
        "obj_ptr_tpos_proj.",
    ),
    *("no_obj_ptr", "no_obj_embed_spatial"),
)
#: Tells whether there is an object; masks do not depend on it.
SCORE_HEAD = "sam_mask_decoder.pred_obj_score_head."
#: Logit of a mask in a frame without the object, as SAM2 writes it.
HIDDEN = -1024.0
#: How much larger than a mask the box is that its frame hands on, in sizes of the box, on each side.
CARRIED_MARGIN = 0.05


@dataclass(frozen=True)
class Decoded:
    """N objects in one frame: mask logits (N, 4 G, 4 G), expected IoU (N,), object score (N,), mask token (N, 256)."""

    mask_logits: Tensor
    ious: Tensor
    objects: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class Remembered:
    """One frame of N objects: memory (N, 64, G, G), object pointer (N, 256), whether it was prompted."""

    frame: int
    memory: Tensor
    pointer: Tensor
    prompted: bool


def condition(segmenter: nn.Module, vision: Tensor, bank: Sequence[Remembered], frame: int) -> Tensor:
    """The features of a frame (N, 256, G, G), as `Embedding.vision` gives them -> conditioned on the bank, same shape.

    All prompted frames, the `RECENT_FRAMES` before, and pointers of the prompted and the latest frames are looked at.
    """
    prompted = [(0, entry) for entry in bank if entry.prompted]
    distances = [(abs(frame - entry.frame), entry) for entry in bank if not entry.prompted]
    recent = [(age, entry) for age, entry in distances if age <= RECENT_FRAMES]
    memories, positions = [], []
    for age, entry in prompted + recent:
        memories.append(_tokens(entry.memory))
        # age 0 takes the last of the temporal encodings, age 1 the first
        own = _tokens(segmenter.memory_encoder.position_encoding(entry.memory).to(entry.memory.dtype))
        positions.append(own + segmenter.maskmem_tpos_enc[age - 1])
    pointed = [(abs(frame - entry.frame), entry) for _, entry in prompted]
    pointed += sorted((pair for pair in distances if pair[0] < POINTERS), key=lambda pair: pair[0])[: POINTERS - 1]
    pointers = torch.stack([entry.pointer for _, entry in pointed])  # (P, N, 256)
    ages = torch.tensor([float(age) for age, _ in pointed], device=vision.device)
    apart = segmenter.obj_ptr_tpos_proj(get_1d_sine_pe(ages / (POINTERS - 1), dim=vision.shape[1]))
    width = apart.shape[1]
    parts = vision.shape[1] // width
    memories.append(pointers.unflatten(2, (parts, width)).permute(0, 2, 1, 3).flatten(0, 1))
    positions.append(apart.repeat_interleave(parts, dim=0)[:, None].expand(-1, len(vision), -1))
    plain = vision - segmenter.no_mem_embed.view(1, -1, 1, 1)
    conditioned = segmenter.memory_attention(
        curr=_tokens(plain),
        curr_pos=_tokens(segmenter.image_encoder.neck.position_encoding(plain)),
        memory=torch.cat(memories),
        memory_pos=torch.cat(positions),
        num_obj_ptr_tokens=parts * len(pointed),
    )
    return conditioned.permute(1, 2, 0).view_as(vision)


def remember(
    segmenter: nn.Module, vision: Tensor, decoded: Decoded, frame: int, *, prompted: bool, there: Tensor | None = None
) -> Remembered:
    """What later frames look back at. Where nothing is there, the mask is not believed.

    there : bool (N,); by default what the object score says, and a prompt's word where there is one.
    """
    if there is None:
        there = torch.ones_like(decoded.objects, dtype=torch.bool) if prompted else decoded.objects > 0
    logits = torch.where(there[:, None, None], decoded.mask_logits, HIDDEN)
    size = segmenter.image_size
    large = F.interpolate(logits[:, None], size=(size, size), mode="bilinear", align_corners=False)
    masks = large.sigmoid() * segmenter.sigmoid_scale_for_mem_enc + segmenter.sigmoid_bias_for_mem_enc
    plain = vision - segmenter.no_mem_embed.view(1, -1, 1, 1)
    memory = segmenter.memory_encoder(plain, masks, skip_mask_sigmoid=True)["vision_features"]
    memory = memory + ~there[:, None, None, None] * segmenter.no_obj_embed_spatial[..., None, None]
    pointer = torch.where(there[:, None], segmenter.obj_ptr_proj(decoded.tokens), segmenter.no_obj_ptr)
    return Remembered(frame, memory, pointer, prompted)


def no_points(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """A prompt that says nothing, as SAM2 gives it for frames that only memory tells of."""
    return torch.zeros(count, 1, 2, device=device), -torch.ones(count, 1, dtype=torch.long, device=device)


def follow(
    segmenter: nn.Module,
    clip: Embedding,
    prompts: Mapping[int, Tensor],
    *,
    carry_boxes: bool = False,
    seen: Mapping[int, tuple[Tensor, Tensor]] | None = None,
    there: Mapping[int, Tensor] | None = None,
) -> list[Decoded]:
    """Carry one object a clip through its frames in order.

    clip : vision (N, T, 256, G, G) and its high-resolution features (N, T, ...).
    prompts : frame -> boxes (N, 4) in input pixels; frame 0 has to be among them. These frames are decoded as single
        images, the others on conditioned features, without any prompt.
    carry_boxes : prompt the others with the box of the last mask, enlarged a little.
    seen : frame -> boxes (N, 4) and bool (N,), whose boxes are taken there instead, as where a detector saw the object.
    there : frame -> bool (N,), what is remembered of the object's presence, instead of what the object score says.
    """
    bank: list[Remembered] = []
    found = []
    boxes = prompts[0]
    for frame in range(clip.vision.shape[1]):
        vision, high_res = clip.vision[:, frame], tuple(level[:, frame] for level in clip.high_res)
        prompted = frame in prompts
        if prompted:
            boxes = prompts[frame]
        elif seen and frame in seen:
            own, whose = seen[frame]
            boxes = torch.where(whose[:, None], own, boxes)
        points = box_points(boxes) if prompted or carry_boxes else no_points(len(vision), vision.device)
        looked_at = vision if prompted else condition(segmenter, vision, bank, frame)
        decoded = Decoded(*run_decoder(segmenter, Embedding(looked_at, high_res), points))
        found.append(decoded)
        told = (there or {}).get(frame)
        bank.append(remember(segmenter, vision, decoded, frame, prompted=prompted, there=told))
        boxes = boxes_of((decoded.mask_logits > 0) & (decoded.objects > 0)[:, None, None], boxes, segmenter.image_size)
    return found


@torch.no_grad()
def boxes_of(masks: Tensor, last: Tensor, size: int) -> Tensor:
    """Boxes (N, 4) in input pixels around masks bool (N, G, G), enlarged by `CARRIED_MARGIN`; `last` where a mask is
    empty."""
    boxes = last.clone()
    for row, mask in enumerate(masks):
        if mask.any():
            ys, xs = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
            box = torch.stack([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1]).to(boxes) * (size / mask.shape[-1])
            margin = (box[2:] - box[:2]) * CARRIED_MARGIN
            boxes[row] = torch.cat([box[:2] - margin, box[2:] + margin])
    return boxes


@torch.no_grad()
def start_afresh(segmenter: nn.Module, visions: Tensor) -> None:
    """Random memory modules, but so that at first a conditioned frame nearly is the frame itself: what attention and
    its layers add is scaled down, and the closing LayerNorm is fitted to give back features like `visions` (M, 256, G,
    G). From there the frozen decoder learns quickest."""
    attention = segmenter.memory_attention
    for layer in attention.layers:
        for linear in (layer.self_attn.out_proj, layer.cross_attn_image.out_proj, layer.linear2):
            linear.weight.mul_(0.1)
            linear.bias.zero_()
    for block in segmenter.memory_encoder.fuser.layers:
        block.gamma.fill_(0.1)
    plain = visions - segmenter.no_mem_embed.view(1, -1, 1, 1)
    given = (plain + 0.1 * segmenter.image_encoder.neck.position_encoding(plain)).permute(0, 2, 3, 1)
    normed = F.layer_norm(given, given.shape[-1:]).flatten(0, 2)
    wanted = visions.permute(0, 2, 3, 1).flatten(0, 2)
    centred = normed - normed.mean(0)
    slope = (centred * (wanted - wanted.mean(0))).mean(0) / centred.square().mean(0).clamp(min=1e-6)
    attention.norm.weight.copy_(slope)
    attention.norm.bias.copy_(wanted.mean(0) - slope * normed.mean(0))


def without_dropout(segmenter: nn.Module) -> None:
    """Clips are few and short, and their random views are noise enough."""
    for module in segmenter.memory_attention.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_p"):
            module.dropout_p = 0.0


def _tokens(features: Tensor) -> Tensor:
    """(N, C, H, W) -> (H * W, N, C)."""
    return features.flatten(2).permute(2, 0, 1)
