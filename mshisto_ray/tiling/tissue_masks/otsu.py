"""Tissue by Otsu's threshold on colour saturation, with clean-up."""

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

# Otsu splits anything in two, also bare glass or a region full of tissue. Stained
# tissue has a saturation above .07 on every stain seen, glass and its JPEG noise below
# .04; so a threshold outside these bounds splits noise or tissue.
_LOWEST_THRESHOLD, _HIGHEST_THRESHOLD = 0.04, 0.12
# Pale tissue is as unsaturated as a dirty slide: it counts where it touches tissue.
_PALE = 0.6
# Below this brightness saturation is noise: black borders and coverslip edges.
_DARK = 40


def build(
    *,
    smooth_um: Annotated[float, Field(ge=0, le=200)] = 12.0,
    min_object_mm2: Annotated[float, Field(ge=0)] = 0.02,
    max_hole_mm2: Annotated[float, Field(ge=0)] = 0.02,
) -> TissueMask:
    """Mask of pixels whose saturation exceeds Otsu's threshold.

    Args:
        smooth_um: standard deviation of the Gaussian before the threshold.
        min_object_mm2: smaller islands are dust.
        max_hole_mm2: smaller holes (lumina, vessels, fat cells) count as tissue.
    """

    def mask(
        pixels: np.ndarray, mpp: float, regions: Sequence[Region] = ()
    ) -> np.ndarray:
        red, green, blue = smooth_channels(pixels, smooth_um / mpp)
        brightest = np.maximum(np.maximum(red, green), blue)
        dimmest = np.minimum(np.minimum(red, green), blue)
        saturation = (brightest - dimmest) / np.maximum(brightest, 1)
        saturation[brightest < _DARK] = 0
        threshold = np.clip(_otsu(saturation), _LOWEST_THRESHOLD, _HIGHEST_THRESHOLD)
        found = connected(saturation, threshold, _PALE * threshold)
        pixel_mm2 = (mpp / 1000) ** 2
        found = without_small(found, min_object_mm2 / pixel_mm2)
        return ~without_small(~found, max_hole_mm2 / pixel_mm2)

    return mask


def _otsu(values: np.ndarray) -> float:
    """Threshold in [0, 1] of largest between-class variance (Otsu 1979, eq. 18)."""
    counts, edges = np.histogram(values, bins=256, range=(0, 1))
    centres = (edges[:-1] + edges[1:]) / 2
    share = counts / counts.sum()
    below = np.cumsum(share)
    mean_below = np.cumsum(share * centres)
    spread = below * (1 - below)
    between = np.divide(
        (mean_below[-1] * below - mean_below) ** 2,
        spread,
        out=np.zeros_like(spread),
        where=spread > 0,
    )
    return float(edges[1:][np.argmax(between)])
