"""Whether a slide was scanned in bright field: its glass is bright, and without colour.

Judged on the pixels that the file holds. Some files fill what was not scanned with
black: neither is it tissue, nor does it make a slide a fluorescence scan.
"""

from __future__ import annotations

import numpy as np

from mshisto_ray.slides import SlideError
from mshisto_ray.tiling.thumbnail import Thumbnail

# The brightest tenth of a fluorescence scan is darker.
_MIN_GLASS_LUMINANCE = 100
# Darker pixels may be filler.
_DARK = 40
# Beside filler: the weakest channel of the brightest tenth (fluorescence has a colour)
# and half of the pixels (it fades into its background).
_MIN_WEAKEST, _MIN_MEDIAN = 100, 80


def check_bright_field(thumbnail: Thumbnail) -> None:
    """Refuse a slide that is no bright-field scan.

    Raises:
        SlideError: ``NotBrightField``.
    """
    seen = thumbnail.pixels[thumbnail.readable & ~thumbnail.missing]
    if not len(seen) or _is_bright(seen):
        return
    rest = seen[seen.max(axis=1) >= _DARK]
    if len(rest) and _is_bright(rest):
        weakest = np.percentile(rest.min(axis=1), 90)
        if weakest >= _MIN_WEAKEST and np.median(_luminance(rest)) >= _MIN_MEDIAN:
            return
    raise SlideError(
        "NotBrightField",
        f"the background is dark (nine tenths of it below {_MIN_GLASS_LUMINANCE} of "
        "255): a fluorescence scan, or inverted; only bright-field slides such as H&E "
        "can be used: leave it out of the cohort",
    )


def _is_bright(pixels: np.ndarray) -> bool:
    return bool(np.percentile(_luminance(pixels), 90) >= _MIN_GLASS_LUMINANCE)


def _luminance(pixels: np.ndarray) -> np.ndarray:
    """Luma of pixels [N, 3]."""
    return pixels @ np.array([0.299, 0.587, 0.114])
