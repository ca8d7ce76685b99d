"""What the readers of volumes return."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.grid import Grid


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels of a file in the file's own order.

    Attributes
    ----------
    voxels : uint8 (X, Y, Z) grey or (X, Y, Z, 3) RGB, 0..255
    grid : where they lie
    notes : sentences that a person should read
    """

    voxels: np.ndarray
    grid: Grid
    notes: tuple[str, ...] = ()


def no_spacing(grid: Grid) -> list[str]:
    """What to say of a file that gives no usable distance between its voxels."""
    if grid.spacing_mm is not None:
        return []
    return ["the file gives a distance of 0 mm, or none, between voxels: volumes and lengths are unknown"]
