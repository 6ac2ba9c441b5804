"""Tiled-JPEG TIFFs (Aperio SVS, generic pyramids), pixel-identical to OpenSlide."""

from __future__ import annotations

from pathlib import Path

from mshisto_ray.slides._native import NativeSlide
from mshisto_ray.slides._slide import Slide
from mshisto_ray.slides.openslide import opens

__all__ = ["ABOUT", "STANDS_IN", "build", "opens"]
STANDS_IN = {"native": 1, "finest": 1, "scaled": 1}
ABOUT = "tiles of JPEG"


def build(path: Path) -> Slide:
    """Open a slide whose levels are JPEG tiles.

    Raises:
        SlideError: not a slide, or ``NotJpegTiles`` if it needs another reader.
    """
    return NativeSlide(path)
