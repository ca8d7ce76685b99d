"""Figures that others published, each with its source: for comparison, never measured here."""

from __future__ import annotations

#: By row: what was published, and where.
PUBLISHED = {
    "int8": ("YOLOv8 and SAM 2, polyps: Dice 0.866, IoU 0.764 (Kvasir-SEG)", "arXiv 2409.09484"),
    "litemedsam": ("5.1 s a 2-D image, i9-10900K", "CVPR 2024, MedSAM on Laptop"),
    "mobilesam": ("12 ms on a GPU, about 3 s on a laptop's CPU", "arXiv 2306.14289; docs.ultralytics.com"),
    "fastsam": ("68 M parameters, 40 ms on a GPU", "arXiv 2306.12156"),
}


def published(row: str) -> str:
    """A table's cell: '12 ms on a GPU (arXiv 2306.14289)', '' where nothing is known."""
    return "{} ({})".format(*PUBLISHED[row]) if row in PUBLISHED else ""
