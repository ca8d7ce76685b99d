"""Small pictures of results, as they go into an HTML file."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

_SIDE = 220


def thumbnail(record: Path) -> str | None:
    """The overlay beside a result's JSON as a `data:` URL; None where there is none that can be shown."""
    stem = record.name.removesuffix(".json")
    try:
        image = _first_frame(record.with_name(f"{stem}_overlay.mp4")) or _picture(
            record.with_name(f"{stem}_overlay.png")
        )
    except (OSError, ValueError):
        return None
    image.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def _picture(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _first_frame(path: Path) -> Image.Image | None:
    if not path.exists():
        return None
    import av

    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_image()
