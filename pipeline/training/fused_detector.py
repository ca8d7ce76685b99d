"""The detector in fused form: a release's detector.onnx back as a network that trains, and back to ordinary weights.

A released detector's RepVGG branches and normalisation are folded into plain convolutions. In that form it also trains,
half as fast again on a CPU, with a small learning rate since nothing normalises. `ordinary_weights` unfolds it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx.numpy_helper import to_array
from torch import Tensor, nn

from pipeline.errors import InputError
from pipeline.training.architectures import build_detector
from pipeline.training.export import restore_float

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
_EXPECTED = "the onnx/fp32/detector.onnx of a release"


def build_fused(num_classes: int) -> nn.Module:
    """YOLO-NAS-S of plain convolutions, without normalisation; same input and outputs as `build_detector`'s."""
    detector = build_detector(num_classes).eval()
    detector.prep_model_for_conversion(input_size=(1, 3, 320, 320))
    for module in list(detector.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
            elif isinstance(child, _CONVOLUTIONS) and child.bias is None:
                child.bias = nn.Parameter(torch.zeros(child.out_channels))
    for parameter in detector.parameters():
        parameter.requires_grad_(True)
    return detector.train()


def load_fused(path: Path, num_classes: int | None = None) -> nn.Module:
    """`build_fused` with the weights of a released graph; of another number of classes, all but its class layers.

    None takes as many classes as the graph has. Raises InputError where it is no YOLO-NAS-S.
    """
    try:
        graph = onnx.load(path)
    except (OSError, DecodeError) as error:
        raise InputError(path, f"unreadable ({type(error).__name__})", _EXPECTED) from None
    restore_float(graph)
    values = {weight.name: to_array(weight) for weight in graph.graph.initializer}
    values |= {node.output[0]: to_array(node.attribute[0].t) for node in graph.graph.node if node.op_type == "Constant"}
    detector = build_fused(num_classes or _classes_in(graph.graph, values, path))
    state = detector.state_dict()
    lacking = {name for name in state if name.endswith((".weight", ".bias"))}
    for name in state:
        if name.endswith(".alpha"):
            state[name] = torch.ones_like(state[name])  # a graph leaves out a factor of one
    for node in graph.graph.node:
        module = _module_of(node.name)
        for kind, value in _weights_of(node, values).items():
            name = f"{module}.{kind}"
            if name not in state:
                continue
            if module.startswith("backbone.stem") and kind == "weight":
                value = value * 255  # the graph's input is 0..255
            if kind == "alpha":
                value = value.reshape(state[name].shape)
            if state[name].shape != value.shape and ".cls_pred." in name:
                lacking.discard(name)  # the classes are others: these layers start anew
                continue
            if state[name].shape != value.shape:
                raise InputError(path, f"{name} is {value.shape}", f"{tuple(state[name].shape)}, {_EXPECTED}")
            state[name] = torch.from_numpy(value.copy())
            lacking.discard(name)
    if lacking:
        raise InputError(path, f"lacks {len(lacking)} weights such as {min(lacking)}", _EXPECTED)
    detector.load_state_dict(state)
    return detector


def _classes_in(graph: onnx.GraphProto, values: dict[str, np.ndarray], path: Path) -> int:
    """How many classes a detector's graph tells apart."""
    for node in graph.node:
        if ".cls_pred" in _module_of(node.name) and (weights := _weights_of(node, values)):
            return len(weights["weight"])
    raise InputError(path, "no layer that tells classes apart", _EXPECTED)


def _module_of(node: str) -> str:
    """'/detector/a/bottlenecks/bottlenecks.0/cv1/Conv' -> 'a.bottlenecks.0.cv1'."""
    parts: list[str] = []
    for part in node.strip("/").split("/")[1:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(part)
    return ".".join(parts)


def _weights_of(node: onnx.NodeProto, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    given = [values[name] for name in node.input if name in values]
    match node.op_type:
        case "Conv" | "ConvTranspose":
            return dict(zip(("weight", "bias"), given, strict=False))
        case "Mul" if len(given) == 1:
            return {"alpha": given[0]}
    return {}


@torch.no_grad()
def ordinary_weights(fused: nn.Module, num_classes: int, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """A state dict for `build_detector` that computes what the fused detector does.

    `batches`, float32 (B, 3, S, S) in 0..1, set the statistics of its normalisation, so that training can go on.
    """
    detector, plain = build_detector(num_classes).eval(), dict(fused.named_modules())
    for name, module in detector.named_modules():
        if hasattr(module, "branch_3x3"):
            _unfold(module, plain[name].rbr_reparam)
        elif isinstance(module, _CONVOLUTIONS) and name in plain and "branch_" not in name:
            module.weight.copy_(plain[name].weight)
            if module.bias is not None:
                module.bias.copy_(plain[name].bias)
        if name in plain and hasattr(module, "alpha") and torch.is_tensor(module.alpha) and "branch_3x3" not in name:
            module.alpha.copy_(plain[name].alpha)
    for name, module in detector.named_modules():
        if isinstance(module, nn.BatchNorm2d) and not name.endswith(("post_bn", "branch_3x3.bn")):
            _pass_through(module, plain[name.removesuffix(".bn") + ".conv"].bias)
    _measure(detector, batches)
    return {name: value.clone() for name, value in detector.state_dict().items()}


def _unfold(block: nn.Module, convolution: nn.Conv2d) -> None:
    """All of a RepVGG block's weight into its 3x3 branch."""
    block.branch_3x3.conv.weight.copy_(convolution.weight)
    if block.identity is not None:
        block.branch_3x3.conv.weight -= block.id_tensor
    block.branch_1x1.weight.zero_()
    if block.branch_1x1.bias is not None:
        block.branch_1x1.bias.zero_()
    if torch.is_tensor(block.alpha):
        block.alpha.fill_(1)
    _pass_through(block.branch_3x3.bn, torch.zeros_like(convolution.bias))
    _pass_through(block.post_bn, convolution.bias)
    block.rbr_reparam.load_state_dict(convolution.state_dict())


def _pass_through(norm: nn.BatchNorm2d, shift: Tensor) -> None:
    """Let a normalisation only add `shift`."""
    norm.running_mean.zero_()
    norm.running_var.fill_(1)
    norm.weight.fill_((1 + norm.eps) ** 0.5)
    norm.bias.copy_(shift)


def _measure(detector: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give each normalisation the statistics of what it is given, without changing what it does."""
    seen: dict[nn.BatchNorm2d, list[tuple[Tensor, Tensor]]] = {}

    def look(norm: nn.BatchNorm2d, given: tuple[Tensor], _: Tensor) -> None:
        seen.setdefault(norm, []).append((given[0].mean((0, 2, 3)), given[0].square().mean((0, 2, 3))))

    hooks = [m.register_forward_hook(look) for m in detector.modules() if isinstance(m, nn.BatchNorm2d)]
    for batch in batches:
        detector(batch)
    for hook in hooks:
        hook.remove()
    for norm, moments in seen.items():
        mean, square = (torch.stack(part).mean(0) for part in zip(*moments, strict=True))
        variance = (square - mean.square()).clamp(min=1e-5)
        shift = norm.bias.clone()
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(shift + mean)
