"""What baselines share that run in torch: their threads, their weights' size, random weights that stay the same.

Import it before the networks' packages: it declares what torchvision may lack.
"""

from __future__ import annotations

import torch
from torch import nn

from pipeline.training import architectures  # noqa: F401  declares torchvision's operators
from pipeline.training.progress import load_weights, read_weights  # noqa: F401  for its users


def set_threads(threads: int | None) -> None:
    """CPU threads of torch, as `--threads` says; None leaves all cores."""
    if threads:
        torch.set_num_threads(threads)


def seed_weights() -> None:
    """Call before a network is built whose own weights are absent: the same random ones every time."""
    torch.manual_seed(0)


def bytes_of(network: nn.Module) -> int:
    """Of all weights as they lie in memory."""
    return sum(value.numel() * value.element_size() for value in network.state_dict().values())
