"""What is known of a class's outlines beforehand: that they lie further in, that they fill their box as an ellipse
does, that they are convex, or an ellipse, or enclose all they surround.

A release names what helps its classes on val (`logit_offset`, `box_ellipse` and `shapes` in its config.json, which
`python -m eval outlines` chooses). All works on mask logits, so whatever is made of them afterwards follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

#: Directions in which a convex outline is bounded.
_DIRECTIONS = 64
#: What the logit of a filled cell becomes at least.
_LOGIT = 1.0
#: Of an ellipse, in cells.
_LEAST_RADIUS = 0.5


@dataclass(frozen=True)
class Shapes:
    """What a release knows of its classes' outlines.

    Attributes
    ----------
    outlines : class name -> 'filled', 'convex' or 'ellipse'
    ellipses : class name -> logits that a cell of distance from the box's own ellipse is worth
    offsets : class name -> logits that are added everywhere; below 0 the outline lies further in than the decoder's
    """

    outlines: dict[str, str] = field(default_factory=dict)
    ellipses: dict[str, float] = field(default_factory=dict)
    offsets: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: dict) -> Shapes:
        return cls(config.get("shapes", {}), config.get("box_ellipse", {}), config.get("logit_offset", {}))

    def of(self, mask_logits: np.ndarray, labels: Sequence[str], boxes: np.ndarray) -> np.ndarray:
        """Masks as their classes have them; those of a label that nothing is known of stay as they are.

        Parameters
        ----------
        mask_logits
            float32 (N, G, G); > 0 is inside.
        labels
            N names of classes.
        boxes
            float32 (N, 4), what the masks were asked for with: xyxy in cells of the grid.
        """
        shaped = mask_logits.copy()
        for number, (label, box) in enumerate(zip(labels, boxes, strict=True)):
            leaning = toward_ellipse(shaped[number] + self.offsets.get(label, 0), box, self.ellipses.get(label, 0))
            shaped[number] = in_shape(leaning, self.outlines.get(label))
        return shaped


def toward_ellipse(logits: np.ndarray, box: np.ndarray, weight: float) -> np.ndarray:
    """Lean towards the ellipse that touches all sides of a box (4,), xyxy in cells: by `weight` times its signed
    distance in cells, about."""
    if not weight:
        return logits
    near, far = np.asarray(box, np.float64).reshape(2, 2)
    radii = np.maximum((far - near) / 2, _LEAST_RADIUS)
    distance = np.sqrt((((_centres(len(logits)) - (near + far) / 2) / radii) ** 2).sum(-1))
    return (logits + weight * (1 - distance) * np.sqrt(radii.prod())).astype(np.float32)


def filled(logits: np.ndarray) -> np.ndarray:
    """Holes are filled, as where a tumour's dead core belongs to it."""
    mask = logits > 0
    return np.where(_without_holes(mask) & ~mask, np.maximum(np.abs(logits), _LOGIT), logits)


def convex(logits: np.ndarray) -> np.ndarray:
    """The convex hull, as a signed distance in cells."""
    edge = _edge(logits)
    angles = np.arange(_DIRECTIONS) * (2 * np.pi / _DIRECTIONS)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    farthest = (edge @ directions).max(0)
    return (farthest - _centres(len(logits)) @ directions).min(-1).astype(np.float32)


def ellipse(logits: np.ndarray) -> np.ndarray:
    """The ellipse of the mask's middle, area and spread, as a signed distance in cells, about."""
    weights = 1 / (1 + np.exp(-logits.clip(-20, 20)))
    weights *= logits > -_LOGIT
    centres = _centres(len(logits))
    middle = np.einsum("rc,rcx->x", weights, centres) / weights.sum()
    offsets = centres - middle
    spread = (
        np.einsum("rc,rcx,rcy->xy", weights, offsets, offsets) / weights.sum() + np.eye(2) / 12
    )  # a cell has its own
    distance = np.sqrt(np.einsum("rcx,xy,rcy->rc", offsets, np.linalg.inv(4 * spread), offsets))
    return ((1 - distance) * np.sqrt(weights.sum() / np.pi)).astype(np.float32)


_SHAPES = {"filled": filled, "convex": convex, "ellipse": ellipse}
#: A mask of fewer cells has no shape to speak of.
_FEWEST_CELLS = 9


def in_shape(logits: np.ndarray, shape: str | None) -> np.ndarray:
    """A mask's logits, float32 (G, G), > 0 inside, in the shape of its class: 'filled', 'convex', 'ellipse' or None."""
    return logits if shape is None or (logits > 0).sum() < _FEWEST_CELLS else _SHAPES[shape](logits)


def _centres(side: int) -> np.ndarray:
    """float64 (side, side, 2): x and y of each cell's centre."""
    along = np.arange(side) + 0.5
    return np.stack(np.meshgrid(along, along), axis=-1)


def _edge(logits: np.ndarray) -> np.ndarray:
    """float64 (M, 2): where the logits cross zero between neighbouring cells, and the middles of all cells inside."""
    centres, inside = _centres(len(logits)), logits > 0
    points = [centres[inside]]
    for here, there in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        crossed = inside[here] != inside[there]
        a, b = logits[here][crossed], logits[there][crossed]
        share = (a / (a - b))[:, None]
        points.append(centres[here][crossed] * (1 - share) + centres[there][crossed] * share)
    return np.concatenate(points)


def _without_holes(mask: np.ndarray) -> np.ndarray:
    """Filled wherever the outside can't be reached over cells' sides."""
    empty = np.pad(~mask, 1, constant_values=True)
    outside = np.zeros_like(empty)
    outside[0] = True
    while True:
        grown = outside.copy()
        grown[1:] |= outside[:-1]
        grown[:-1] |= outside[1:]
        grown[:, 1:] |= outside[:, :-1]
        grown[:, :-1] |= outside[:, 1:]
        grown &= empty
        if (grown == outside).all():
            return ~outside[1:-1, 1:-1]
        outside = grown
