"""A release's image_encoder.onnx and mask_decoder.onnx back as a SAM2 network that trains.

The graphs are a checkpoint: what export folded together (see `pipeline.training.graphs`) is taken apart again, into
weights that need not be those that were exported but compute the same. What the graphs lack stays as it was built: the
memory modules, and the mask tokens of several masks a prompt.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError
from onnx.numpy_helper import to_array
from torch import Tensor, nn

from pipeline.errors import InputError
from pipeline.training.export import POSITION, restore_float
from pipeline.training.progress import load_weights

_EXPECTED = "the onnx/fp32/image_encoder.onnx of a release, with its mask_decoder.onnx beside it"


def start_segmenter(segmenter: nn.Module, path: Path) -> None:
    """Load weights of any kind that `--init` takes: .safetensors, an official .pt, or a released image_encoder.onnx."""
    if path.suffix != ".onnx":
        load_weights(segmenter, path)
        return
    for graph, take in (("image_encoder", _take_encoder), ("mask_decoder", _take_decoder)):
        file = path.with_name(f"{graph}.onnx")
        try:
            with torch.no_grad():
                take(segmenter, graph_weights(file))
        except KeyError as lacking:
            raise InputError(file, f"lacks {lacking}", _EXPECTED) from None
        except RuntimeError as error:  # torch's word for a tensor of another shape
            raise InputError(file, f"weights of another shape ({error})", _EXPECTED) from None


def graph_weights(path: Path) -> dict[str, Tensor]:
    """The state dict of the module that a graph was traced from, float32."""
    try:
        graph = onnx.load(path)
    except (OSError, DecodeError) as error:
        raise InputError(path, f"unreadable ({type(error).__name__})", _EXPECTED) from None
    restore_float(graph)
    weights = {entry.name: torch.from_numpy(to_array(entry).copy()) for entry in graph.graph.initializer}
    users = {name: node for node in graph.graph.node for name in node.input}
    for node in graph.graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            # a linear layer: its transposed weight has a number for a name, but its bias, or else its node, tells whose
            adds = users.get(node.output[0])
            named = [name for name in adds.input if name.endswith(".bias")] if adds is not None else []
            owner = named[0].removesuffix(".bias") if named else ".".join(node.name.strip("/").split("/")[:-1])
            weights[f"{owner}.weight"] = weights[node.input[1]].T.contiguous()
    return weights


def _take_encoder(sam: nn.Module, weights: dict[str, Tensor]) -> None:
    trunk, neck, decoder = sam.image_encoder.trunk, sam.image_encoder.neck, sam.sam_mask_decoder
    _fill(trunk.patch_embed.proj, weights, "patch")
    trunk.pos_embed.copy_(weights[f"{POSITION}/coarse"])
    trunk.pos_embed_window.copy_(weights[f"{POSITION}/window"])
    for number, block in enumerate(trunk.blocks):
        name = f"blocks.{number}"
        for part in ("norm1", "norm2", "mlp.layers.0", "mlp.layers.1"):
            _fill(block.get_submodule(part), weights, f"{name}.{part}")
        if block.dim != block.dim_out:
            _fill(block.proj, weights, f"{name}.shortcut")
        attention = block.attn
        scale = (attention.dim_out // attention.num_heads) ** -0.5
        query, key, value = (weights[f"{name}.{part}.weight"] for part in ("query", "key", "value"))
        attention.qkv.weight.copy_(torch.cat([query / scale, key, value]))
        attention.qkv.bias.zero_()
        attention.qkv.bias[: len(query)] = weights[f"{name}.query.bias"] / scale
        _fill(attention.proj, weights, f"{name}.out")
    lateral = [conv.conv for conv in reversed(neck.convs)]  # finest first
    for conv, then, name in (
        (lateral[0], decoder.conv_s0, "to_high_res_0"),
        (lateral[1], decoder.conv_s1, "to_high_res_1"),
    ):
        # the product of the two goes into the first rows of the first; the second passes these rows on
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        conv.weight[: len(weight)] = weight[:, :, None, None]
        conv.bias[: len(weight)] = bias
        then.weight.zero_()
        then.weight[range(len(weight)), range(len(weight))] = 1
        then.bias.zero_()
    sam.no_mem_embed.zero_()  # it is in the bias of the embedding
    for conv, name in ((lateral[2], "to_embedding"), (lateral[3], "from_coarse")):
        conv.weight.copy_(weights[f"{name}.weight"][:, :, None, None])
        conv.bias.copy_(weights[f"{name}.bias"])


def _take_decoder(sam: nn.Module, weights: dict[str, Tensor]) -> None:
    prompts, decoder = sam.sam_prompt_encoder, sam.sam_mask_decoder
    name = "positional_encoding_gaussian_matrix"
    prompts.pe_layer.get_buffer(name).copy_(weights[f"prompts.pe_layer.{name}"])
    kinds = [prompts.not_a_point_embed, *prompts.point_embeddings]
    for module, row in zip(kinds, weights["kinds"].split(1), strict=True):
        module.weight.copy_(row)
    prompts.no_mask_embed.weight.copy_(weights["no_mask"].view(1, -1))
    own = [decoder.obj_score_token, decoder.iou_token, decoder.mask_tokens]
    for module, rows in zip(own, weights["own_tokens"][0].split([len(part.weight) for part in own]), strict=True):
        module.weight.copy_(rows)
    for part, module in decoder.transformer.named_modules():
        if isinstance(module, nn.Linear | nn.LayerNorm):
            _fill(module, weights, f"transformer.{part}")
    first, norm, _, second, _ = decoder.output_upscaling
    for conv, part in ((first, "up_1"), (second, "up_2")):
        # rows are (2, 2, C') of the pixel's four children
        weight = weights[f"{part}.weight"].view(2, 2, conv.out_channels, conv.in_channels)
        conv.weight.copy_(weight.permute(3, 2, 0, 1))
        conv.bias.copy_(weights[f"{part}.bias"].view(4, -1).mean(0))
    _fill(norm, weights, "norm")
    heads = {"hyper": decoder.output_hypernetworks_mlps[0], "iou_head": decoder.iou_prediction_head}
    heads["object_head"] = decoder.pred_obj_score_head
    for part, head in heads.items():
        for number, layer in enumerate(head.layers):
            _fill(layer, weights, f"{part}.layers.{number}")


def _fill(module: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    module.weight.copy_(weights[f"{name}.weight"])
    module.bias.copy_(weights[f"{name}.bias"])
