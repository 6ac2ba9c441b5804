"""Tiled-JPEG TIFFs (Aperio SVS, generic pyramids), pixel-identical to OpenSlide."""

from __future__ import annotations

from pathlib import Path

from mshisto_ray.slides._native import NativeSlide
from mshisto_ray.slides._slide import Slide


def build(path: Path) -> Slide:
    """Open a slide whose levels are JPEG tiles.

    Raises:
        SlideError: not a slide, or ``NotJpegTiles`` if it needs another reader.
    """
    return NativeSlide(path)
