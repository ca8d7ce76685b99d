"""How large an object is: its volume, and its longest diameter in space."""

from __future__ import annotations

import numpy as np

from pipeline.tracks import Tracking


def volume_ml(tracking: Tracking, track: int, steps_mm: np.ndarray) -> float:
    """Millilitres of all voxels of an object.

    `steps_mm` is float64 (3, 3), rows: where one slice, one row and one column further leads in mm (`Stack.steps_mm`).
    """
    voxels = sum(tracking.tracks[track].area_px(index) for index in tracking.tracks[track].rles)
    return voxels * abs(float(np.linalg.det(steps_mm))) / 1000


def longest_diameter_mm(tracking: Tracking, track: int, steps_mm: np.ndarray) -> float:
    """Largest distance between the centres of two voxels of an object, in mm; exact.

    Both lie on the convex outlines of their slices. Pairs of slices are looked at from the largest distance that
    circles around their outlines allow, until no other pair can hold more than what was found.
    """
    outlines = []
    for index in sorted(tracking.tracks[track].rles):
        corners = convex_corners(tracking.mask(track, index))
        if len(corners):
            outlines.append(np.column_stack([np.full(len(corners), index), corners]) @ steps_mm)
    if not outlines:
        return 0.0
    normal = np.cross(steps_mm[1], steps_mm[2])
    normal /= np.linalg.norm(normal)
    centres = np.array([(points.min(0) + points.max(0)) / 2 for points in outlines])
    radii = np.array([np.linalg.norm(points - c, axis=1).max() for points, c in zip(outlines, centres, strict=True)])
    heights = centres @ normal
    flat = centres - heights[:, None] * normal
    one, other = np.triu_indices(len(outlines))
    sideways = np.linalg.norm(flat[one] - flat[other], axis=1) + radii[one] + radii[other]
    reach = np.hypot(heights[one] - heights[other], sideways) * (1 + 1e-9)
    longest = 0.0
    for pair in np.argsort(-reach):
        if reach[pair] <= longest:
            break
        points, others = outlines[one[pair]], outlines[other[pair]]
        longest = max(longest, float(np.linalg.norm(points[:, None] - others[None], axis=2).max()))
    return longest


def convex_corners(mask: np.ndarray) -> np.ndarray:
    """Corners of the convex hull of a mask's pixel centres, (row, column), int (K, 2); none of an empty mask.

    Andrew's monotone chain on the first and last pixel of each row.
    """
    rows = np.flatnonzero(mask.any(1))
    first = mask[rows].argmax(1)
    last = mask.shape[1] - 1 - mask[rows, ::-1].argmax(1)
    left = _chain(zip(rows.tolist(), first.tolist(), strict=True), 1)
    right = _chain(zip(rows.tolist(), last.tolist(), strict=True), -1)
    return np.array(sorted({*left, *right}), int).reshape(-1, 2)


def _chain(points, side: int) -> list[tuple[int, int]]:
    """Of points with rising rows those that no line between two others leaves on `side` (1: larger columns)."""
    kept: list[tuple[int, int]] = []
    for row, column in points:
        while len(kept) > 1:
            (row_a, column_a), (row_b, column_b) = kept[-2:]
            if side * ((row_b - row_a) * (column - column_a) - (column_b - column_a) * (row - row_a)) > 0:
                break
            kept.pop()
        kept.append((row, column))
    return kept
