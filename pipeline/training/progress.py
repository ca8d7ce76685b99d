"""What both trainings share: budget, learning rate, moving average, checkpoints, log."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from hub.files import replace_path
from pipeline.errors import InputError


@dataclass
class Budget:
    """How far a training is: by steps, or by minutes if that comes first. Survives a resume.

    `minutes` counts training time over all resumed runs; a single run also ends after `run_minutes`.
    """

    steps: int
    minutes: float = math.inf
    run_minutes: float = math.inf
    step: int = 0
    seconds: float = 0.0
    _clock: float = field(default_factory=time.monotonic)
    _this_run: float = 0.0

    def tick(self) -> None:
        now = time.monotonic()
        self.seconds += now - self._clock
        self._this_run += now - self._clock
        self._clock = now
        self.step += 1

    @property
    def share(self) -> float:
        """0 at the start, 1 at the end."""
        return min(1.0, max(self.step / self.steps, self.seconds / 60 / self.minutes))

    @property
    def finished(self) -> bool:
        return self.share >= 1

    @property
    def run_over(self) -> bool:
        return self.finished or self._this_run / 60 >= self.run_minutes


def learning_rate(budget: Budget, peak: float, warmup: int) -> float:
    """Linear warm-up over so many steps, 0 for none, then a cosine down to 2 % of the peak."""
    cosine = 0.02 + 0.98 * (1 + math.cos(math.pi * budget.share)) / 2
    return peak * cosine * min(1.0, (budget.step + 1) / max(1, warmup))


class MovingAverage:
    """Exponential moving average of a module's parameters and buffers, young averages weighted less."""

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self.updates = 0
        self.state = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in module.state_dict().items():
            if value.dtype.is_floating_point:
                self.state[name].lerp_(value.detach(), 1 - decay)
            else:
                self.state[name].copy_(value)


def device_and_precision() -> tuple[torch.device, torch.dtype]:
    """CUDA with bfloat16 where there is a GPU, else the CPU in bfloat16 (float32 where the processor lacks it)."""
    if torch.cuda.is_available():
        return torch.device("cuda"), torch.bfloat16
    return torch.device("cpu"), torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict]:
    """Biases and normalisation weights do not decay."""
    decayed = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
    free = [p for p in module.parameters() if p.requires_grad and p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def save_weights(state: dict[str, torch.Tensor], path: Path, dtype: torch.dtype | None = None) -> None:
    """A state dict as safetensors, floats cast to `dtype` if given."""
    tensors = {}
    for name, value in state.items():
        value = value.detach().cpu().contiguous()
        tensors[name] = value.to(dtype) if dtype and value.dtype.is_floating_point else value.clone()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_path(path) as temporary:
        save_file(tensors, temporary)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """A state dict from .safetensors, or from an official .pt/.pth checkpoint (`{"model": ...}` or plain); float32.

    Nothing in the file is executed: a checkpoint that holds more than tensors is refused.
    """
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(path, "no such file", "weights as .safetensors or .pt") from None
    except (OSError, RuntimeError, EOFError, ValueError, SafetensorError) as error:
        raise InputError(
            path, f"unreadable weights ({type(error).__name__})", "a whole .safetensors or .pt file"
        ) from None
    except Exception as error:
        if type(error).__name__ != "UnpicklingError":
            raise
        raise InputError(path, "holds more than tensors", "a checkpoint of weights only; convert it first") from None
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]
    if not isinstance(state, dict) or not state or not all(torch.is_tensor(value) for value in state.values()):
        raise InputError(path, "holds no state dict", "a {'model': {name: tensor}} checkpoint or a plain state dict")
    return {name: value.float() if value.dtype.is_floating_point else value for name, value in state.items()}


def load_weights(module: nn.Module, path: Path) -> None:
    """Strictly load weights into a module; what is lacking, left over or of another shape is named."""
    state, own = read_weights(path), module.state_dict()
    faults = {
        "lacks": [name for name in own if name not in state],
        "does not know": [name for name in state if name not in own],
        "has another shape of": [n for n, v in state.items() if n in own and v.shape != own[n].shape],
    }
    said = [
        f"{what} {len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in faults.items()
        if names
    ]
    if said:
        raise InputError(
            path, f"not these weights: {'; '.join(said)}", f"the {len(own)} tensors of {type(module).__name__}"
        )
    module.load_state_dict(state)


def save_checkpoint(path: Path, parts: dict) -> None:
    """State to go on from: modules' and optimizer's state dicts and plain numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_path(path) as temporary:
        torch.save(parts, temporary)


def read_checkpoint(path: Path) -> dict:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(path, "no checkpoint to resume", "the --out folder of a run that was stopped") from None


def log_row(path: Path, **values: object) -> None:
    """Append one JSON line, and show it."""
    row = {key: round(value, 5) if isinstance(value, float) else value for key, value in values.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)
