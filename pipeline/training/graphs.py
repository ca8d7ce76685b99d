"""The networks as they are exported: the same functions, written so that ONNX runs them fast on a CPU.

Input is a uint8 image as `geometry.Resize` gives it; the normalisation is inside. What differs from the packages' own
forward is algebra, and parity with it is tested:

- Shapes are Python numbers, so no shape arithmetic is left in the graph.
- Hiera's query/key/value and output projections run on the real tokens alone, before windows are padded. That is exact:
  a key's bias shifts all scores of a query alike, which softmax ignores, and a value's bias passes through the weighted
  mean, so it joins the output projection's bias; padding is then zero. The softmax scale sits in the query's weights.
- The neck's 1x1 convolution and the decoder's `conv_s0`, `conv_s1` that follow it are one product.
- A transposed convolution whose stride is its kernel is a linear layer a pixel. The decoder keeps the pixels in that
  nested order until the mask is one channel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.training.channel_levels import STEP, channel_gains
from pipeline.training.segmenter_parts import MEAN, STD


class DetectorGraph(nn.Module):
    """YOLO-NAS: image uint8 (1, S, S, 3) RGB -> boxes float32 (1, A, 4) xyxy in input pixels, scores (1, A, classes).

    All anchors, before non-maximum suppression.
    """

    def __init__(self, detector: nn.Module, size: int):
        super().__init__()
        detector.eval()
        detector.prep_model_for_conversion(input_size=(1, 3, size, size))  # fuses the RepVGG branches, in place
        detector.heads.cache_anchors((size, size))
        self.detector = detector

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        found = self.detector(_even_channels(image))
        return found if torch.is_tensor(found[0]) else found[0]  # super-gradients returns less while it is traced


def _even_channels(image: Tensor) -> Tensor:
    """`channel_levels.even_channels` of one image uint8 (1, S, S, 3) -> float32 (1, 3, S, S).

    A row's pixels and channels are one axis: onnxruntime is slow where the last axis has three entries.
    """
    side = image.shape[1]
    some = image[:, ::STEP, ::STEP].float().flatten(1, 2).transpose(1, 2)
    gains = channel_gains(some).transpose(1, 2).repeat(1, 1, side)
    even = (image.float().reshape(1, side, 3 * side) * gains).clamp(max=255.0)
    # as a factor, which the exported graph holds in its first convolution
    return even.reshape(1, side, side, 3).permute(0, 3, 1, 2) * (1 / 255)


class EncoderGraph(nn.Module):
    """SAM2's image encoder: image uint8 (1, S, S, 3) RGB -> embedding (1, 256, S/16, S/16), (1, 32, S/4, S/4),
    (1, 64, S/8, S/8), ready for the decoder: `no_mem_embed` is added, `conv_s0` and `conv_s1` are applied."""

    def __init__(self, sam: nn.Module):
        super().__init__()
        trunk, neck, decoder = sam.image_encoder.trunk, sam.image_encoder.neck, sam.sam_mask_decoder
        if list(neck.fpn_top_down_levels) != [2, 3] or sam.image_encoder.scalp != 1:
            raise ValueError("a neck other than SAM2.1's")
        patch = trunk.patch_embed.proj
        self.size = sam.image_size
        self.grid = self.size // patch.stride[0]
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1) * 255)
        self.register_buffer("inverse_std", 1 / (torch.tensor(STD).view(1, 3, 1, 1) * 255))
        self.register_buffer("position", trunk._get_pos_embed((self.grid, self.grid)).detach())
        self.patch = patch
        self.blocks = nn.ModuleList(_HieraBlock(block) for block in trunk.blocks)
        self.stage_ends = tuple(trunk.stage_ends)
        lateral = [conv.conv for conv in reversed(neck.convs)]  # finest first
        self.to_high_res_0 = _chain(pointwise(lateral[0]), pointwise(decoder.conv_s0))
        self.to_high_res_1 = _chain(pointwise(lateral[1]), pointwise(decoder.conv_s1))
        self.to_embedding = pointwise(lateral[2])
        with torch.no_grad():
            self.to_embedding.bias += sam.no_mem_embed.flatten()
        self.from_coarse = pointwise(lateral[3])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = (image.permute(0, 3, 1, 2).float() - self.mean) * self.inverse_std
        x = self.patch(x).permute(0, 2, 3, 1) + self.position
        side, stages = self.grid, []
        for index, block in enumerate(self.blocks):
            x, side = block(x, side)
            if index in self.stage_ends:
                stages.append(x)
        coarse = self.from_coarse(stages[3]).permute(0, 3, 1, 2)
        embedding = self.to_embedding(stages[2]).permute(0, 3, 1, 2) + F.interpolate(coarse, scale_factor=2.0)
        high_res_0 = self.to_high_res_0(stages[0]).permute(0, 3, 1, 2)
        high_res_1 = self.to_high_res_1(stages[1]).permute(0, 3, 1, 2)
        return embedding, high_res_0, high_res_1


class _HieraBlock(nn.Module):
    def __init__(self, block: nn.Module):
        super().__init__()
        attention = block.attn
        self.heads = attention.num_heads
        self.channels = attention.dim_out
        self.window, self.pool = block.window_size, 2 if block.q_stride else 1
        if block.q_stride not in (None, (2, 2), [2, 2]):
            raise ValueError(f"query stride {block.q_stride}; expected (2, 2)")
        self.norm1, self.norm2, self.mlp = block.norm1, block.norm2, block.mlp
        self.shortcut = block.proj if block.dim != block.dim_out else None
        self.query, self.key, self.value = _thirds(attention.qkv)
        self.out = nn.Linear(self.channels, self.channels)
        with torch.no_grad():
            scale = (self.channels // self.heads) ** -0.5
            self.query.weight *= scale
            self.query.bias *= scale
            self.out.weight.copy_(attention.proj.weight)
            self.out.bias.copy_(attention.proj.bias + attention.proj.weight @ self.value.bias)
        self.key.bias = self.value.bias = None

    def forward(self, x: Tensor, side: int) -> tuple[Tensor, int]:
        """x (1, side, side, C) -> (1, side', side', C'), side'."""
        normed = self.norm1(x)
        shortcut = x if self.shortcut is None else _pool(self.shortcut(normed), self.pool)
        x = shortcut + self.out(self._attend(normed, side))
        return x + self.mlp(self.norm2(x)), side // self.pool

    def _attend(self, x: Tensor, side: int) -> Tensor:
        """x (1, side, side, C) -> (1, side / pool, side / pool, C')."""
        window = self.window or side
        count = -(-side // window)
        # Queries are pooled before they are cut into windows: a window is a whole number of pools, and so is the image.
        query = self._windows(_pool(self.query(x), self.pool), count, window // self.pool)
        key, value = self._windows(self.key(x), count, window), self._windows(self.value(x), count, window)
        mixed = (query @ key.transpose(-2, -1)).softmax(-1) @ value
        inner, kept, depth = window // self.pool, side // self.pool, self.channels // self.heads
        mixed = mixed.reshape(count, count, self.heads, inner, inner, depth).permute(0, 3, 1, 4, 2, 5)
        mixed = mixed.reshape(1, count * inner, count * inner, self.channels)
        return mixed if count * inner == kept else mixed[:, :kept, :kept]

    def _windows(self, x: Tensor, count: int, window: int) -> Tensor:
        """(1, side, side, C') -> (count * count, heads, window * window, C' / heads), padded with zeros."""
        padding = count * window - x.shape[1]
        if padding:
            x = F.pad(x, (0, 0, 0, padding, 0, padding))
        depth = self.channels // self.heads
        x = x.reshape(count, window, count, window, self.heads, depth).permute(0, 2, 4, 1, 3, 5)
        return x.reshape(count * count, self.heads, window * window, depth)


class DecoderGraph(nn.Module):
    """SAM2's prompt encoder and mask decoder, single-mask token, one image and any number of prompts at once.

    The encoder's three outputs, point_coords float32 (N, P, 2) in input pixels, point_labels int64 (N, P) -> mask
    logits (N, S/4, S/4), predicted IoU (N,), object score (N,), mask token (N, 256), which the memory makes object
    pointers of. A low object score hides nothing here.
    """

    def __init__(self, sam: nn.Module):
        super().__init__()
        decoder = sam.sam_mask_decoder
        if not (decoder.pred_obj_scores and decoder.use_high_res_features):
            raise ValueError("a decoder other than SAM2.1's")
        self.prompts, self.transformer = sam.sam_prompt_encoder, decoder.transformer
        self.grid = sam.sam_image_embedding_size
        own = [decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight]
        self.register_buffer("own_tokens", torch.cat(own).detach().unsqueeze(0))
        kinds = [self.prompts.not_a_point_embed, *self.prompts.point_embeddings]  # labels -1, 0, 1, 2, 3
        self.register_buffer("kinds", torch.cat([kind.weight for kind in kinds]).detach())
        position = self.prompts.get_dense_pe().flatten(2).transpose(1, 2)
        self.register_buffer("position", position.detach())
        self.register_buffer("no_mask", self.prompts.no_mask_embed.weight.detach().view(1, 1, -1))
        first, self.norm, self.activation, second, _ = decoder.output_upscaling
        self.up_1, self.up_2 = _upsampler(first), _upsampler(second)
        self.hyper = decoder.output_hypernetworks_mlps[0]
        self.iou_head, self.object_head = decoder.iou_prediction_head, decoder.pred_obj_score_head

    def forward(
        self, embedding: Tensor, high_res_0: Tensor, high_res_1: Tensor, point_coords: Tensor, point_labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        tokens = self._embed_prompts(point_coords, point_labels)
        # (1, grid * grid, 256): one for all prompts until it has attended to their tokens
        image = embedding.flatten(2).transpose(1, 2) + self.no_mask
        tokens, image = self._transform(tokens, image)
        object_token, iou_token, mask_token = tokens[:, 0], tokens[:, 1], tokens[:, 2]
        mask_logits = self._draw(image, high_res_0, high_res_1, self.hyper(mask_token))
        return mask_logits, self.iou_head(iou_token)[:, 0], self.object_head(object_token)[:, 0], mask_token

    def _embed_prompts(self, coords: Tensor, labels: Tensor) -> Tensor:
        """(N, P, 2), (N, P) -> (N, 6 + P + 1, 256): the decoder's own tokens, the points, SAM's closing no-point."""
        relative = (coords + 0.5) / self.prompts.input_image_size[0]
        placed = self.prompts.pe_layer._pe_encoding(relative) * (labels >= 0).unsqueeze(-1)
        points = placed + self.kinds[labels + 1]
        own, end = (part.expand(coords.shape[0], -1, -1) for part in (self.own_tokens, self.kinds[None, :1]))
        return torch.cat([own, points, end], dim=1)

    def _transform(self, tokens: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """SAM2's TwoWayTransformer, with an image that broadcasts over the prompts."""
        prompt = tokens
        for layer in self.transformer.layers:
            if layer.skip_first_layer_pe:
                tokens = _attention(layer.self_attn, tokens, tokens, tokens)
            else:
                placed = tokens + prompt
                tokens = tokens + _attention(layer.self_attn, placed, placed, tokens)
            tokens = layer.norm1(tokens)
            placed_image = image + self.position
            tokens = tokens + _attention(layer.cross_attn_token_to_image, tokens + prompt, placed_image, image)
            tokens = layer.norm2(tokens)
            tokens = layer.norm3(tokens + layer.mlp(tokens))
            image = image + _attention(layer.cross_attn_image_to_token, placed_image, tokens + prompt, tokens)
            image = layer.norm4(image)
        final = self.transformer.final_attn_token_to_image
        tokens = tokens + _attention(final, tokens + prompt, image + self.position, image)
        return self.transformer.norm_final_attn(tokens), image

    def _draw(self, image: Tensor, high_res_0: Tensor, high_res_1: Tensor, weights: Tensor) -> Tensor:
        """image (N, grid * grid, 256), weights (N, 32) -> mask logits (N, 4 grid, 4 grid)."""
        grid = self.grid
        # pixels in the order (row, column, row in cell, column in cell), one cell a pixel of the level above
        fine_1 = high_res_1.reshape(-1, grid, 2, grid, 2).permute(1, 3, 2, 4, 0).reshape(1, 4 * grid**2, -1)
        fine_0 = (
            high_res_0.reshape(-1, grid, 2, 2, grid, 2, 2).permute(1, 4, 2, 5, 3, 6, 0).reshape(1, 16 * grid**2, -1)
        )
        x = self.up_1(image).reshape(-1, 4 * grid**2, fine_1.shape[-1])
        x = F.layer_norm(x + fine_1, x.shape[-1:], self.norm.weight, self.norm.bias, self.norm.eps)
        x = self.up_2(self.activation(x)).reshape(-1, 16 * grid**2, fine_0.shape[-1])
        logits = self.activation(x + fine_0) @ weights.unsqueeze(-1)
        logits = logits.reshape(-1, grid, grid, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4, 6)
        return logits.reshape(-1, 4 * grid, 4 * grid)


def _attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """SAM's multi-head attention, (B, T, C) each, where B may be 1 and broadcasts."""
    heads, depth = module.num_heads, module.internal_dim // module.num_heads

    def split(tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (heads, depth)).transpose(1, 2)

    query = split(module.q_proj(query)) * depth**-0.5
    scores = query @ split(module.k_proj(key)).transpose(-2, -1)
    mixed = scores.softmax(-1) @ split(module.v_proj(value))
    return module.out_proj(mixed.transpose(1, 2).flatten(-2))


def _thirds(linear: nn.Linear) -> list[nn.Linear]:
    """One linear layer as three: splitting its output would cost more than reading its input three times."""
    thirds = []
    for weight, bias in zip(linear.weight.chunk(3), linear.bias.chunk(3), strict=True):
        third = nn.Linear(linear.in_features, len(bias))
        with torch.no_grad():
            third.weight.copy_(weight)
            third.bias.copy_(bias)
        thirds.append(third)
    return thirds


def pointwise(conv: nn.Conv2d) -> nn.Linear:
    """A 1x1 convolution as a linear layer over the last axis."""
    linear = nn.Linear(conv.in_channels, conv.out_channels)
    with torch.no_grad():
        linear.weight.copy_(conv.weight[:, :, 0, 0])
        linear.bias.copy_(conv.bias)
    return linear


def _chain(first: nn.Linear, second: nn.Linear) -> nn.Linear:
    """One linear layer that does `second(first(x))`."""
    linear = nn.Linear(first.in_features, second.out_features)
    with torch.no_grad():
        linear.weight.copy_(second.weight @ first.weight)
        linear.bias.copy_(second(first.bias))
    return linear


def _upsampler(conv: nn.ConvTranspose2d) -> nn.Linear:
    """A 2x2 transposed convolution of stride 2 as a linear layer: C -> (2, 2, C') of the pixel's four children."""
    linear = nn.Linear(conv.in_channels, 4 * conv.out_channels)
    with torch.no_grad():
        linear.weight.copy_(conv.weight.permute(2, 3, 1, 0).reshape(-1, conv.in_channels))
        linear.bias.copy_(conv.bias.repeat(4))
    return linear


def _pool(x: Tensor, factor: int) -> Tensor:
    """Maximum over factor x factor pixels of (1, H, W, C)."""
    if factor == 1:
        return x
    _, height, width, channels = x.shape
    x = x.reshape(1, height // factor, factor, width, channels).amax(2)  # an axis at a time: onnxruntime is faster so
    return x.reshape(1, height // factor, width // factor, factor, channels).amax(3)
