"""SAM2's memory as it is exported: the same functions, written so that ONNX runs them fast on a CPU.

What differs from SAM2Base's own forward is algebra, and parity with it is tested:

- Rotary positions are real: a rotation of pairs, x1 cos - x2 sin. Queries' and keys' weights are sorted so that the
  first of each pair come first, then the second: scores don't depend on an order that both share.
- The embedding comes with `no_mem_embed` added, as single images need it; it is taken off again inside.
- Until objects' memories come in, all objects share one row.
- 1x1 convolutions are linear layers over the last axis.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sam2.modeling.position_encoding import compute_axial_cis
from torch import Tensor, nn

from pipeline.memory import POINTERS
from pipeline.training.graphs import pointwise
from pipeline.training.memory_parts import HIDDEN


class MemoryAttentionGraph(nn.Module):
    """embedding (1, 256, G, G), memories (N, M, 64, G, G), memory_age int64 (M,): 0 for prompted frames, else how many
    frames ago, 1 to 6; pointers (N, P, 256), pointer_age float32 (P,): how many frames ago -> conditioned
    (N, 256, G, G)."""

    def __init__(self, sam: nn.Module):
        super().__init__()
        attention = sam.memory_attention
        if not (attention.pos_enc_at_input and sam.proj_tpos_enc_in_obj_ptrs and sam.directly_add_no_mem_embed):
            raise ValueError("a memory other than SAM2.1's")
        self.grid, self.channels = sam.sam_image_embedding_size, sam.hidden_dim
        blank = torch.zeros(1, self.channels, self.grid, self.grid)
        place = 0.1 * sam.image_encoder.neck.position_encoding(blank)
        self.register_buffer("start", (place - sam.no_mem_embed.detach().view(1, -1, 1, 1)).flatten(2).transpose(1, 2))
        where = sam.memory_encoder.position_encoding(torch.zeros(1, sam.mem_dim, self.grid, self.grid))
        self.register_buffer("where", where.flatten(2).transpose(1, 2)[:, None])  # (1, 1, T, 64)
        ages = sam.maskmem_tpos_enc.detach().flatten(1)
        self.register_buffer("when", ages.roll(1, 0))  # prompted first: SAM2 keeps them last
        half = self.channels // 2
        self.register_buffer("wavelength", 10000.0 ** (2 * (torch.arange(half) // 2) / half) * (POINTERS - 1))
        self.pointer_when = sam.obj_ptr_tpos_proj
        turns = compute_axial_cis(self.channels, self.grid, self.grid)
        self.register_buffer("cos", turns.real.contiguous())
        self.register_buffer("sin", turns.imag.contiguous())
        self.layers = nn.ModuleList(_Layer(layer) for layer in attention.layers)
        self.norm = attention.norm

    def forward(
        self, embedding: Tensor, memories: Tensor, memory_age: Tensor, pointers: Tensor, pointer_age: Tensor
    ) -> Tensor:
        memory = memories.flatten(3).transpose(2, 3)  # (N, M, T, 64)
        placed = memory + self.where + self.when[memory_age][:, None]
        pointer = pointers.unflatten(2, (-1, memory.shape[3]))  # (N, P, 4, 64)
        angle = pointer_age[:, None] / self.wavelength
        placed_pointer = pointer + self.pointer_when(torch.cat([angle.sin(), angle.cos()], dim=1))[:, None]
        pointer, placed_pointer = pointer.flatten(1, 2), placed_pointer.flatten(1, 2)
        x = embedding.flatten(2).transpose(1, 2) + self.start
        for layer in self.layers:
            x = layer(x, (memory, placed), (pointer, placed_pointer), (self.cos, self.sin))
        return self.norm(x).transpose(1, 2).reshape(-1, self.channels, self.grid, self.grid)


class _Layer(nn.Module):
    def __init__(self, layer: nn.Module):
        super().__init__()
        if layer.pos_enc_at_attn or layer.pos_enc_at_cross_attn_queries or not layer.pos_enc_at_cross_attn_keys:
            raise ValueError("a memory other than SAM2.1's")
        self.norm1, self.norm2, self.norm3 = layer.norm1, layer.norm2, layer.norm3
        self.itself, self.across = _Attention(layer.self_attn), _Attention(layer.cross_attn_image)
        self.linear1, self.linear2, self.activation = layer.linear1, layer.linear2, layer.activation

    def forward(
        self,
        x: Tensor,
        memory: tuple[Tensor, Tensor],
        pointer: tuple[Tensor, Tensor],
        turns: tuple[Tensor, Tensor],
    ) -> Tensor:
        """x (1 or N, T, 256); memories (N, M, T, 64) and pointers (N, 4 P, 64), plain and with their positions."""
        own = self.norm1(x)
        key = _rotate(self.itself.key(own), turns)
        x = x + self.itself(own, key, self.itself.value(own), turns)
        (plain, placed), (pointer, placed_pointer) = memory, pointer
        key = torch.cat([_rotate(self.across.key(placed), turns).flatten(1, 2), self.across.key(placed_pointer)], dim=1)
        value = self.across.value(torch.cat([plain.flatten(1, 2), pointer], dim=1))
        x = x + self.across(self.norm2(x), key, value, turns)
        return x + self.linear2(self.activation(self.linear1(self.norm3(x))))


class _Attention(nn.Module):
    """One head."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        if attention.num_heads != 1:
            raise ValueError(f"{attention.num_heads} heads; expected 1")
        width = attention.internal_dim
        order = torch.cat([torch.arange(0, width, 2), torch.arange(1, width, 2)])
        self.query = _sorted(attention.q_proj, order, width**-0.5)
        self.key = _sorted(attention.k_proj, order)
        self.value, self.out = attention.v_proj, attention.out_proj

    def forward(self, x: Tensor, key: Tensor, value: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
        scores = _rotate(self.query(x), turns) @ key.transpose(1, 2)
        return self.out(scores.softmax(-1) @ value)


class MemoryEncoderGraph(nn.Module):
    """embedding (1, 256, G, G), mask_logits (N, 4 G, 4 G), mask_token (N, 256), object_score (N,) -> memory
    (N, 64, G, G), pointer (N, 256). Where the object score is not above 0, the mask is not believed."""

    def __init__(self, sam: nn.Module):
        super().__init__()
        encoder = sam.memory_encoder
        if not (sam.fixed_no_obj_ptr and not sam.soft_no_obj_ptr and sam.pred_obj_scores):
            raise ValueError("a memory other than SAM2.1's")
        self.size = sam.image_size
        self.scale, self.bias = sam.sigmoid_scale_for_mem_enc, sam.sigmoid_bias_for_mem_enc
        *down, last = encoder.mask_downsampler.encoder
        self.down = nn.ModuleList(m if isinstance(m, nn.Conv2d | nn.GELU) else _last_axis(m) for m in down)
        self.from_mask = pointwise(last)
        self.from_image = pointwise(encoder.pix_feat_proj)
        with torch.no_grad():
            self.from_image.bias -= self.from_image.weight @ sam.no_mem_embed.flatten()
        self.blocks = encoder.fuser.layers
        self.norms = nn.ModuleList(_last_axis(block.norm) for block in self.blocks)
        self.to_memory = pointwise(encoder.out_proj)
        self.to_pointer = sam.obj_ptr_proj
        self.register_buffer("no_pointer", sam.no_obj_ptr.detach())
        self.register_buffer("no_object", sam.no_obj_embed_spatial.detach().view(1, 1, 1, -1))

    def forward(
        self, embedding: Tensor, mask_logits: Tensor, mask_token: Tensor, object_score: Tensor
    ) -> tuple[Tensor, Tensor]:
        there = object_score > 0
        logits = torch.where(there[:, None, None], mask_logits, HIDDEN)[:, None]
        x = F.interpolate(logits, size=(self.size, self.size), mode="bilinear", align_corners=False)
        x = x.sigmoid() * self.scale + self.bias
        for module in self.down:
            channels_last = isinstance(module, nn.LayerNorm)
            x = module(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if channels_last else module(x)
        x = self.from_mask(x.permute(0, 2, 3, 1)) + self.from_image(embedding.permute(0, 2, 3, 1))
        for block, norm in zip(self.blocks, self.norms, strict=True):
            near = norm(block.dwconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
            x = x + block.gamma * block.pwconv2(block.act(block.pwconv1(near)))
        memory = self.to_memory(x) + (~there).float()[:, None, None, None] * self.no_object
        pointer = torch.where(there[:, None], self.to_pointer(mask_token), self.no_pointer)
        return memory.permute(0, 3, 1, 2), pointer


def _last_axis(norm: nn.Module) -> nn.LayerNorm:
    """sam2's LayerNorm2d, of channels, as a LayerNorm of the last axis."""
    result = nn.LayerNorm(len(norm.weight), norm.eps)
    with torch.no_grad():
        result.weight.copy_(norm.weight)
        result.bias.copy_(norm.bias)
    return result


def _rotate(x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """(..., T, 2 C): pairs (x[c], x[C + c]) turned by the angles whose cosines and sines (T, C) are given."""
    cos, sin = turns
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def _sorted(linear: nn.Linear, order: Tensor, scale: float = 1.0) -> nn.Linear:
    """A linear layer whose outputs are in another order, scaled."""
    result = nn.Linear(linear.in_features, linear.out_features)
    with torch.no_grad():
        result.weight.copy_(linear.weight[order] * scale)
        result.bias.copy_(linear.bias[order] * scale)
    return result
