"""Changes that a medical image may undergo and stay true: place, size, turn, mirror, brightness, noise."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.datasets.image_files import is_grey
from pipeline.training.other_device import other_device

cv2.setNumThreads(1)


def vary_intensity(
    pixels: np.ndarray, modality: str, rng: np.random.Generator, other_devices: float = 0.0
) -> np.ndarray:
    """Brightness, contrast, gamma, noise and blur, the same in all channels; black stays black.

    Colour only varies where there is colour (a light source's tint). MRI whose channels are different sequences
    (pre-contrast, FLAIR, post-contrast) becomes a plain copy of one sequence half of the time, mostly FLAIR, because
    a user's own scan is usually a single sequence. A share of `other_devices` looks as if from another hospital.
    """
    if "MRI" in modality and not is_grey(pixels) and rng.random() < 0.5:
        sequence = rng.choice(3, p=(0.1, 0.8, 0.1))
        pixels = np.repeat(pixels[..., sequence : sequence + 1], 3, axis=2)
    levels = (np.arange(256) / 255.0) ** np.exp(rng.normal(0, 0.25)) * np.exp(rng.normal(0, 0.15))
    levels = levels + rng.normal(0, 0.03) * (np.arange(256) > 0)
    if not is_grey(pixels) and "MRI" not in modality:
        gains = np.exp(rng.normal(0, 0.06, 3))
        table = np.stack([levels * gain for gain in gains], axis=-1)
    else:
        table = np.repeat(levels[:, None], 3, axis=1)
    changed = cv2.LUT(np.ascontiguousarray(pixels), np.round(table.clip(0, 1) * 255).astype(np.uint8)[None])
    if rng.random() < 0.2:
        changed = cv2.GaussianBlur(changed, (0, 0), rng.uniform(0.4, 1.2))
    if rng.random() < 0.3:
        noise = rng.normal(0, rng.uniform(2, 8), changed.shape[:2]).astype(np.float32)[..., None]
        changed = np.where(changed > 0, (changed + noise).clip(0, 255), 0).astype(np.uint8)
    if other_devices and rng.random() < other_devices:
        changed = other_device(changed, modality, rng)
    return changed


def random_placement(size: int, canvas: int, rng: np.random.Generator, *, scales: tuple[float, float]) -> np.ndarray:
    """A random zoom, shift and mirror image, as an affine matrix (2, 3) from a square canvas to a square of `size`."""
    zoom = np.exp(rng.uniform(*np.log(scales))) * size / canvas
    stretch = np.exp(rng.uniform(-0.1, 0.1))
    zoom_x, zoom_y = zoom * stretch, zoom / stretch
    shift = [(size - canvas * z) * rng.uniform(0.2, 0.8) for z in (zoom_x, zoom_y)]
    matrix = np.array([[zoom_x, 0, shift[0]], [0, zoom_y, shift[1]]])
    if rng.random() < 0.5:
        matrix[0] = [-matrix[0, 0], 0, size - matrix[0, 2]]
    return matrix


def squash_placement(
    content: tuple[int, int, int, int],
    size: int,
    rng: np.random.Generator | None,
    *,
    scales: tuple[float, float] = (0.8, 1.3),
) -> np.ndarray:
    """Affine matrix (2, 3) that squashes a canvas's content onto a square of `size`, as the segmenter sees an image;
    with `rng` also a random zoom about a random point, and a mirror image half of the time."""
    left, top, right, bottom = content
    matrix = np.array([[size / (right - left), 0, 0], [0, size / (bottom - top), 0]], float)
    matrix[:, 2] = -matrix[0, 0] * left, -matrix[1, 1] * top
    if rng is None:
        return matrix
    then = random_placement(size, size, rng, scales=scales)
    matrix[:, 2] = then[:, :2] @ matrix[:, 2] + then[:, 2]
    matrix[:, :2] = then[:, :2] @ matrix[:, :2]
    return matrix


def near_placement(
    box: np.ndarray, content: tuple[int, int, int, int], size: int, rng: np.random.Generator
) -> np.ndarray:
    """Affine matrix (2, 3) that puts the surroundings of a box onto a square of `size`, at random 1.5 to 5 times as
    large as the box, mirrored half of the time; as `geometry.Resize.around` shows them to the segmenter."""
    left, top, right, bottom = content
    within = np.tile((box[2:] - box[:2]).max() * np.exp(rng.uniform(*np.log((1.5, 5.0)))), 2)
    within = np.minimum(within * np.exp(rng.uniform(-0.1, 0.1, 2)), (right - left, bottom - top))
    middle = (box[:2] + box[2:]) / 2 + rng.uniform(-0.15, 0.15, 2) * within
    first = np.clip(middle - within / 2, (left, top), (right, bottom) - within)
    matrix = np.diag(size / within) @ np.column_stack([np.eye(2), -first])
    if rng.random() < 0.5:
        matrix[0] = -matrix[0] + (0, 0, size)
    return matrix


def place(pixels: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Warp uint8 (H, W[, 3]) onto a black square of `size`."""
    zoom = np.hypot(matrix[0, 0], matrix[1, 0])
    if zoom < 0.6:  # antialias: warpAffine samples points only
        pixels = cv2.GaussianBlur(pixels, (0, 0), 0.4 / zoom)
    return cv2.warpAffine(pixels, matrix, (size, size), flags=cv2.INTER_LINEAR)


def turn(matrix: np.ndarray, degrees: float, size: int) -> np.ndarray:
    """A placement (2, 3) followed by a turn about the middle of the square of `size`."""
    about = cv2.getRotationMatrix2D((size / 2, size / 2), degrees, 1.0)
    return np.concatenate([about[:, :2] @ matrix[:, :2], about[:, :2] @ matrix[:, 2:] + about[:, 2:]], axis=1)


def random_turn(modality: str, rng: np.random.Generator, other_devices: float = 0.0) -> float:
    """Degrees. An endoscope has no up; in other images a patient lies a little askew.

    A share of `other_devices` of MRI is turned by a right angle or two, too, as slices are that were saved along the
    axes of their file and not of the patient; with mirror images these are all ways to lay a slice.
    """
    most = 180.0 if modality == "colonoscopy" else 12.0
    quarters = rng.integers(1, 4) if "MRI" in modality and other_devices and rng.random() < other_devices else 0
    return 90.0 * quarters + rng.uniform(-most, most)


def place_outlines(
    outlines: list[np.ndarray], matrix: np.ndarray, size: int, min_visible: float = 0.3
) -> tuple[np.ndarray, np.ndarray]:
    """Regions under a placement: N outlines (K, 2) -> (boxes float32 xyxy of those that stay visible, bool (N,) which).

    An outline is the corners of any convex shape around a region, so a turned region's box stays tight.
    """
    moved = [outline @ matrix[:, :2].T + matrix[:, 2] for outline in outlines]
    corners = np.array([(points.min(0), points.max(0)) for points in moved]).reshape(-1, 2, 2)
    clipped = corners.clip(0, size)
    area, visible = np.ptp(corners, axis=1).prod(-1), np.ptp(clipped, axis=1).prod(-1)
    keep = (visible >= min_visible * area) & (np.ptp(clipped, axis=1).min(-1) >= 2)
    return clipped[keep].reshape(-1, 4).astype(np.float32), keep
