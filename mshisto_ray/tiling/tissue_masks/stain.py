"""Tissue by what haematoxylin and eosin absorb: pens and borders absorb otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy import ndimage

from mshisto_ray.tiling.annotation import Region
from mshisto_ray.tiling.tissue_masks._mask import TissueMask
from mshisto_ray.tiling.tissue_masks._objects import (
    connected,
    without_small,
)

# Optical density of stain above which tissue is certain, and down to which it goes on:
# smoothed glass stays below .005, the palest eosin reaches .022. No threshold of the
# slide's own, which dark tissue would raise above the pale one beside it.
_CERTAIN, _PALE = 0.02, 0.012
# Both dyes absorb green most. Blue and green inks absorb red more, red ink blue about
# as much, black all alike.
_MOST_RED, _MOST_BLUE = 1.05, 0.8
# Densities this low are too noisy to tell their hue.
_FAINT = 0.03
_DARK = 40


def build(
    *,
    smooth_um: Annotated[float, Field(ge=0, le=200)] = 8.0,
    min_object_mm2: Annotated[float, Field(ge=0)] = 0.02,
    max_hole_mm2: Annotated[float, Field(ge=0)] = 0.02,
) -> TissueMask:
    """Mask of what is stained by haematoxylin or eosin.

    Args:
        smooth_um: standard deviation of the Gaussian before the threshold.
        min_object_mm2: smaller islands are dust.
        max_hole_mm2: smaller holes (lumina, vessels, fat cells) count as tissue.
    """

    def mask(
        pixels: np.ndarray, mpp: float, regions: Sequence[Region] = ()
    ) -> np.ndarray:
        smooth = ndimage.gaussian_filter(
            pixels.astype(np.float32), (smooth_um / mpp, smooth_um / mpp, 0)
        )
        is_ink, stained = _stained(smooth)
        found = connected(stained, _CERTAIN, _PALE)
        pixel_mm2 = (mpp / 1000) ** 2
        found = without_small(found, min_object_mm2 / pixel_mm2)
        return ~without_small(~found, max_hole_mm2 / pixel_mm2) & ~is_ink

    return mask


def _stained(smooth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is ink or darkness, bool [h, w], and density of stain elsewhere."""
    brightest = smooth.max(axis=2)
    is_dark = brightest < _DARK
    glass = np.percentile(smooth[~is_dark], 98, axis=0) if not is_dark.all() else 255
    density = np.log10(np.maximum(glass, 1)) - np.log10(np.maximum(smooth, 1))
    red, green, blue = np.moveaxis(density, 2, 0)
    strongest = density.max(axis=2)
    is_ink = is_dark | (
        (strongest > _FAINT) & ((red > _MOST_RED * green) | (blue > _MOST_BLUE * green))
    )
    return is_ink, np.where(is_ink, 0, green - np.minimum(red, blue))
