"""Whether a slide was scanned in bright field: its glass is bright, and without colour.

Judged on the pixels that the file holds. Some files fill what was not scanned with
black: neither is it tissue, nor does it make a slide a fluorescence scan.
"""

from __future__ import annotations

import numpy as np

from mshisto_ray.slides import SlideError
from mshisto_ray.tiling.thumbnail import Thumbnail

# Of the brightest tenth of the pixels: luma, and the weakest channel, which is empty
# where a fluorescence dye has its colour.
_MIN_LUMA, _MIN_WEAKEST = 100, 40
# Darker pixels may be filler, or the background of a fluorescence scan. Where they
# are most of the slide, the rest has to have glass (the weakest channel of its
# brightest fiftieth), and half of it has to be bright: fluorescence fades away.
_DARK, _MIN_GLASS, _MIN_MEDIAN = 40, 160, 80


def check_bright_field(thumbnail: Thumbnail) -> None:
    """Refuse a slide that is no bright-field scan.

    Raises:
        SlideError: ``NotBrightField``.
    """
    seen = thumbnail.pixels[thumbnail.readable & ~thumbnail.missing]
    if not len(seen):
        return
    rest = seen[seen.max(axis=1) >= _DARK]
    if len(rest) > len(seen) / 2:
        is_bright = _is_bright(seen)
    else:
        is_bright = len(rest) > 0 and _is_bright(rest) and _has_glass(rest)
    if not is_bright:
        raise SlideError(
            "NotBrightField",
            f"the background is dark (nine tenths of it below {_MIN_LUMA} of 255) or "
            "of one colour: a fluorescence scan, or inverted; only bright-field slides "
            "such as H&E can be used: leave it out of the cohort",
        )


def _is_bright(pixels: np.ndarray) -> bool:
    luma = np.percentile(_luma(pixels), 90)
    weakest = np.percentile(pixels.min(axis=1), 90)
    return bool(luma >= _MIN_LUMA and weakest >= _MIN_WEAKEST)


def _has_glass(pixels: np.ndarray) -> bool:
    glass = np.percentile(pixels.min(axis=1), 98)
    return bool(glass >= _MIN_GLASS and np.median(_luma(pixels)) >= _MIN_MEDIAN)


def _luma(pixels: np.ndarray) -> np.ndarray:
    """Luma of pixels [N, 3]."""
    return pixels @ np.array([0.299, 0.587, 0.114])
