"""Pictures as data URIs, small enough for a page that travels by mail."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from matplotlib.figure import Figure as Plot
from PIL import Image

# Of one picture: a page of sixteen and a contact sheet stays below 15 MB.
MAX_BYTES = 480_000
_SIDES = (2400, 2000, 1600, 1280, 1024, 800, 640, 480)
_QUALITY = 84


def photograph(path: Path, side: int = _SIDES[0], max_bytes: int = MAX_BYTES) -> str:
    """A picture file as JPEG of at most ``side`` pixels and ``max_bytes``.

    Raises:
        OSError: it cannot be read.
    """
    with Image.open(path) as image:
        picture = image.convert("RGB")
    sides = [side, *(s for s in _SIDES if s < min(side, max(picture.size)))]
    content = b""
    for longest in sides:
        picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
        content = buffer.getvalue()
        if len(content) <= max_bytes:
            break
    return _uri("image/jpeg", content)


def drawing(plot: Plot) -> str:
    """A figure of matplotlib as SVG."""
    buffer = io.BytesIO()
    plot.savefig(buffer, format="svg", metadata={"Date": None})
    return _uri("image/svg+xml", buffer.getvalue())


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
