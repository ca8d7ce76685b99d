"""Drawn images that look a little like scans: examples that need no patient, no licence and no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

_SEED = 20
_SLICES, _FRAMES = 12, 20


def write_phantoms(folder: Path) -> list[tuple[Path, str]]:
    """Draw every phantom into `folder` as PNG, the same bytes each time; returns (file, caption) pairs."""
    drawn = []
    for name, draw in _PHANTOMS.items():
        path = folder / f"phantom_{name.replace(' ', '_')}.png"
        draw(np.random.default_rng(_SEED)).save(path)
        drawn.append((path, f"Phantom: {name}"))
    return drawn


def _chest(rng: np.random.Generator) -> Image.Image:
    image, draw = _blank(512, 20)
    draw.rounded_rectangle((30, 60, 482, 600), 150, fill=150)
    draw.rectangle((232, 0, 280, 512), fill=190)  # spine and mediastinum
    draw.ellipse((230, 250, 385, 430), fill=185)  # heart
    draw.polygon([(215, 95), (150, 120), (95, 230), (70, 410), (150, 395), (222, 415)], fill=45)
    draw.polygon([(297, 95), (362, 120), (417, 230), (442, 410), (385, 400), (372, 330), (300, 240)], fill=45)
    for row in range(110, 430, 38):  # ribs
        draw.arc((60, row, 240, row + 130), 190, 350, fill=95, width=7)
        draw.arc((272, row, 452, row + 130), 190, 350, fill=95, width=7)
    return _noisy(image.filter(ImageFilter.GaussianBlur(5)), rng, 5)


def _brain(rng: np.random.Generator) -> Image.Image:
    image, draw = _blank(256, 0)
    draw.ellipse((42, 18, 214, 238), fill=70)  # scalp
    draw.ellipse((50, 26, 206, 230), fill=15)  # skull
    draw.ellipse((56, 32, 200, 224), fill=105)
    draw.ellipse((66, 42, 190, 214), fill=85)
    draw.polygon([(124, 90), (108, 80), (104, 130), (122, 150)], fill=35)  # ventricles
    draw.polygon([(132, 90), (148, 80), (152, 130), (134, 150)], fill=35)
    draw.ellipse((148, 66, 190, 112), fill=205)  # lesion
    return _noisy(image.filter(ImageFilter.GaussianBlur(2)), rng, 4)


def _fetal_head(rng: np.random.Generator) -> Image.Image:
    image, draw = _blank(400, 0, height=270)
    draw.pieslice((-60, -230, 460, 290), 25, 155, fill=40)  # the sector that the probe sees
    draw.ellipse((100, 65, 310, 220), fill=30, outline=225, width=8)
    draw.line((115, 142, 295, 142), fill=110, width=2)  # midline echo
    return _speckled(image.filter(ImageFilter.GaussianBlur(2)), rng)


def _breast_lesion(rng: np.random.Generator) -> Image.Image:
    image, draw = _blank(480, 95, height=360)
    for row, value in ((0, 150), (35, 90), (75, 130), (230, 80), (290, 50)):
        draw.rectangle((0, row, 480, 360), fill=value)
    draw.ellipse((170, 110, 320, 205), fill=18)
    return _speckled(image.filter(ImageFilter.GaussianBlur(4)), rng)


def _polyp(rng: np.random.Generator) -> Image.Image:
    image = Image.new("RGB", (512, 430), (175, 80, 65))
    draw = ImageDraw.Draw(image)
    draw.ellipse((30, -60, 330, 200), fill=(95, 30, 25))  # the lumen
    for step in range(3):  # folds
        draw.arc((0 - 40 * step, -80, 380 + 60 * step, 240 + 60 * step), 10, 170, fill=(205, 115, 95), width=10)
    draw.ellipse((245, 190, 420, 345), fill=(215, 120, 100))
    draw.ellipse((262, 202, 400, 320), fill=(228, 140, 118))
    image = image.filter(ImageFilter.GaussianBlur(6))
    ImageDraw.Draw(image).ellipse((305, 225, 325, 238), fill=(255, 250, 245))  # the lamp's reflection
    return _noisy(image.filter(ImageFilter.GaussianBlur(1)), rng, 3)


_PHANTOMS = {
    "chest X-ray": _chest,
    "brain MRI": _brain,
    "fetal ultrasound": _fetal_head,
    "breast ultrasound": _breast_lesion,
    "colonoscopy": _polyp,
}


def write_stack_phantoms(folder: Path) -> list[tuple[Path, str]]:
    """The same for volumes and videos: a heart as NIfTI, from its tip to its base, and one that beats as GIF."""
    import nibabel  # imported here: it takes longer to load than all that is drawn

    rng = np.random.default_rng(_SEED)
    volume, video = folder / "phantom_heart.nii.gz", folder / "phantom_beating_heart.gif"
    slices = [np.asarray(_noisy(_heart(share), rng, 5).convert("L")) for share in np.linspace(0, 0.6, _SLICES)]
    as_in_ras = np.stack([drawn[::-1, ::-1].T for drawn in slices], axis=-1)
    nibabel.save(nibabel.Nifti1Image(as_in_ras.astype(np.int16), np.diag([1.25, 1.25, 8, 1])), volume)
    beat = 0.3 + 0.3 * np.cos(2 * np.pi * np.arange(_FRAMES) / _FRAMES)
    first, *others = [_noisy(_heart(share), rng, 5) for share in beat]
    first.save(video, save_all=True, append_images=others, duration=40, loop=0)
    return [(volume, "Phantom volume: heart MRI"), (video, "Phantom video: beating heart")]


def _heart(filled: float) -> Image.Image:
    """A short-axis slice, the left ventricle from squeezed (0) to filled (1)."""
    image, draw = _blank(256, 12)
    draw.ellipse((8, 18, 248, 238), fill=250)  # fat, the brightest
    draw.ellipse((20, 30, 236, 226), fill=70)  # chest
    draw.ellipse((24, 70, 100, 200), fill=18)  # lungs
    draw.ellipse((172, 60, 238, 200), fill=18)
    draw.ellipse((70, 88, 130, 168), fill=104)  # right ventricle
    draw.ellipse((98, 82, 182, 166), fill=55)  # muscle
    radius = 17 + 14 * filled
    draw.ellipse((140 - radius, 124 - radius, 140 + radius, 124 + radius), fill=130)
    return image.filter(ImageFilter.GaussianBlur(2))


def _blank(width: int, grey: int, height: int | None = None) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("L", (width, height or width), grey)
    return image, ImageDraw.Draw(image)


def _noisy(image: Image.Image, rng: np.random.Generator, spread: float) -> Image.Image:
    pixels = np.asarray(image, np.float32)
    noise = rng.normal(0, spread, pixels.shape[:2])
    return _image(pixels + (noise if pixels.ndim == 2 else noise[..., None]))


def _speckled(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Ultrasound's multiplicative noise, Rayleigh distributed, in grains of two pixels, log-compressed as shown."""
    pixels = np.asarray(image, np.float32)
    grain = np.sqrt(rng.rayleigh(0.8, (image.height // 2, image.width // 2))).astype(np.float32)
    grain = Image.fromarray(grain).resize(image.size, Image.Resampling.BILINEAR)
    return _image(pixels * np.asarray(grain))


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGB")
