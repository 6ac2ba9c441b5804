"""As native_tiles, plus levels decoded at 1/2 and 1/4 where the pyramid has none."""

from __future__ import annotations

from pathlib import Path

from mshisto_ray.slides._native import NativeSlide
from mshisto_ray.slides._slide import Slide
from mshisto_ray.slides.openslide import opens

__all__ = ["ABOUT", "STANDS_IN", "build", "opens"]
STANDS_IN = {"scaled": 0}
ABOUT = "tiles of JPEG"


def build(path: Path) -> Slide:
    """Open a slide whose levels are JPEG tiles, with reduced levels between them.

    A reduced level keeps the low frequencies of each 8 x 8 DCT block: it is not a box
    average, and costs a fraction of one.

    Raises:
        SlideError: not a slide, or ``NotJpegTiles`` if it needs another reader.
    """
    return NativeSlide(path, scaled=True)
