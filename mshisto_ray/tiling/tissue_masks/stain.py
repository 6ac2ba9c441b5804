"""Tissue by the absorption of haematoxylin and eosin; that of pens differs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from mshisto_ray.tiling.annotation import Region
from mshisto_ray.tiling.tissue_masks._mask import TissueMask
from mshisto_ray.tiling.tissue_masks._objects import (
    connected,
    smooth_channels,
    without_small,
)

# Optical density of stain above which tissue is certain, and down to which it extends:
# smoothed glass stays below .005, the palest eosin reaches .022. Not derived from the
# slide, where dark tissue would raise the threshold above the pale tissue beside it.
_CERTAIN, _PALE = 0.02, 0.012
# Both dyes absorb green most. Blue and green inks absorb red more, red ink blue about
# as much, black all alike.
_MOST_RED, _MOST_BLUE = 1.05, 0.8
# Densities this low are too noisy to have a reliable hue.
_FAINT = 0.03
_DARK = 40


def build(
    *,
    smooth_um: Annotated[float, Field(ge=0, le=200)] = 8.0,
    min_object_mm2: Annotated[float, Field(ge=0)] = 0.02,
    max_hole_mm2: Annotated[float, Field(ge=0)] = 0.02,
) -> TissueMask:
    """Mask of pixels stained by haematoxylin or eosin.

    Args:
        smooth_um: standard deviation of the Gaussian before the threshold.
        min_object_mm2: smaller islands are dust.
        max_hole_mm2: smaller holes (lumina, vessels, fat cells) count as tissue.
    """

    def mask(
        pixels: np.ndarray, mpp: float, regions: Sequence[Region] = ()
    ) -> np.ndarray:
        is_ink, stained = _stained(*smooth_channels(pixels, smooth_um / mpp))
        found = connected(stained, _CERTAIN, _PALE)
        pixel_mm2 = (mpp / 1000) ** 2
        found = without_small(found, min_object_mm2 / pixel_mm2)
        found = ~without_small(~found, max_hole_mm2 / pixel_mm2)
        # A small spot of ink's colour within tissue is blood or pigment.
        return found & ~without_small(is_ink, max_hole_mm2 / pixel_mm2)

    return mask


def _stained(
    red: np.ndarray, green: np.ndarray, blue: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mask of ink and dark pixels, bool [h, w], and density of stain elsewhere."""
    is_dark = np.maximum(np.maximum(red, green), blue) < _DARK
    red, green, blue = (_density(channel, ~is_dark) for channel in (red, green, blue))
    strongest = np.maximum(np.maximum(red, green), blue)
    is_ink = is_dark | (
        (strongest > _FAINT) & ((red > _MOST_RED * green) | (blue > _MOST_BLUE * green))
    )
    return is_ink, np.where(is_ink, 0, green - np.minimum(red, blue))


def _density(channel: np.ndarray, is_bright: np.ndarray) -> np.ndarray:
    """Optical density relative to glass, the 98th percentile of the bright pixels."""
    glass = np.percentile(channel[is_bright], 98) if is_bright.any() else 255
    return np.log10(max(glass, 1)) - np.log10(np.maximum(channel, 1))
