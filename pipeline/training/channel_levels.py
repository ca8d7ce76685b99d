"""The levels of a colour image's channels, made even before the detector looks: inside its graph, and in its training.

The channels of a brain MRI are sequences, each with a scale of its own; the light of an endoscope has a tint. Grey
images stay as they are.
"""

from __future__ import annotations

import torch

#: Share of a channel's pixels that become white, and how much brighter no channel becomes.
_WHITE_SHARE, _MOST = 0.002, 6.0
#: Every so many rows and columns are looked at.
STEP = 2


def even_channels(images: torch.Tensor) -> torch.Tensor:
    """Images (B, 3, H, W) of 0..255, any dtype -> float32, 0..1."""
    images = images.float()
    gain = channel_gains(images[..., ::STEP, ::STEP].flatten(2)).unsqueeze(-1)
    return (images * gain).clamp(max=255.0) * (1 / 255)


def channel_gains(some: torch.Tensor) -> torch.Tensor:
    """Of images' every STEPth row and column, float32 (B, 3, N) of 0..255 -> how much brighter each channel becomes,
    float32 (B, 3, 1)."""
    white = some.topk(max(1, int(_WHITE_SHARE * some.shape[-1])), dim=-1).values[..., -1:]
    gain = (255.0 / white.clamp(min=1.0)).clamp(1.0, _MOST)
    differ = (some - some[:, :1]).abs().amax((1, 2), keepdim=True) > 0
    return torch.where(differ, gain, 1.0)
