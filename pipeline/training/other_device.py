"""How an image might look from another hospital's device: resolution, compression, shading, local contrast, colour.

What a training set from one place cannot show. Each change keeps every region where it is.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from pipeline.datasets.image_files import is_grey

#: How likely each change is, in an image that gets any.
_EACH = 0.35


def other_device(pixels: np.ndarray, modality: str, rng: np.random.Generator) -> np.ndarray:
    """Some of the changes below, in a random order: uint8 (H, W, 3) -> the same shape.

    Grey stays grey and black black; an MRI's channels are sequences, which no tint mixes.
    """
    changes = [change for change in CHANGES if change is not tinted or "MRI" not in modality]
    changed = pixels
    for number in rng.permutation(len(changes)):
        if rng.random() < _EACH:
            changed = changes[number](changed, rng)
    return np.where(pixels.any(axis=2, keepdims=True), changed, 0).astype(np.uint8)


def coarser(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A third to all of the resolution, enlarged again."""
    height, width = pixels.shape[:2]
    share = np.exp(rng.uniform(np.log(0.33), 0))
    small = (max(8, round(width * share)), max(8, round(height * share)))
    return cv2.resize(cv2.resize(pixels, small, interpolation=cv2.INTER_AREA), (width, height))


def compressed(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Through a JPEG of quality 15 to 70."""
    source = pixels[..., 0] if is_grey(pixels) else pixels
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 71))]
    _, content = cv2.imencode(".jpg", np.ascontiguousarray(source), quality)
    return cv2.imdecode(content, cv2.IMREAD_COLOR)


def shaded(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brighter here, darker there: a coil's or a lamp's smooth field, of factors from about a half to two."""
    side = int(rng.integers(2, 5))
    field = np.exp(rng.normal(0, 0.3, (side, side))).astype(np.float32)
    field = cv2.resize(field, pixels.shape[1::-1], interpolation=cv2.INTER_CUBIC).clip(0.3, 3)
    return (pixels * field[..., None]).clip(0, 255).astype(np.uint8)


def locally_contrasted(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Contrast-limited adaptive histogram equalization of the lightness, as many consoles do it."""
    tiles = int(rng.integers(3, 9))
    equalize = cv2.createCLAHE(rng.uniform(1, 4), (tiles, tiles)).apply
    if is_grey(pixels):
        return np.repeat(equalize(np.ascontiguousarray(pixels[..., 0]))[..., None], 3, axis=2)
    lab = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2LAB)
    lab[..., 0] = equalize(np.ascontiguousarray(lab[..., 0]))
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def windowed(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another window, another film: what is darkest and brightest is cut off, and a strong gamma."""
    low, high = rng.uniform(0, 0.15), rng.uniform(0.6, 1.3)
    levels = ((np.arange(256) / 255.0 - low) / (high - low)).clip(0, 1) ** np.exp(rng.normal(0, 0.45))
    return np.round(levels * 255).astype(np.uint8)[pixels]


def tinted(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another light and white balance, where there is colour: saturation, hue and each channel's gain."""
    if is_grey(pixels):
        return pixels
    hsv = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + rng.normal(0, 6)) % 180
    hsv[..., 1] = (hsv[..., 1] * np.exp(rng.normal(0, 0.3))).clip(0, 255)
    rgb = cv2.cvtColor(hsv.round().clip(0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB)
    return (rgb * np.exp(rng.normal(0, 0.12, 3))).clip(0, 255).astype(np.uint8)


CHANGES: tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], ...] = (
    coarser,
    compressed,
    shaded,
    locally_contrasted,
    windowed,
    tinted,
)
