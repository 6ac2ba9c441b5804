"""Tissue as drawn by hand: the regions of the slide's annotation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from mshisto_ray.tiling.annotation import AnnotationError, Region
from mshisto_ray.tiling.tissue_masks._mask import TissueMask

NEEDS_ANNOTATION = True


def build(*, groups: tuple[str, ...] | None = None) -> TissueMask:
    """Mask of annotated regions.

    Args:
        groups: names of the groups or classes that count; null: all.
    """

    def mask(
        pixels: np.ndarray, mpp: float, regions: Sequence[Region] = ()
    ) -> np.ndarray:
        wanted = [r for r in regions if groups is None or r.name in groups]
        if not wanted:
            have = ", ".join(sorted({r.name for r in regions})) or "no region at all"
            raise AnnotationError(
                f"has none of the groups that count as tissue "
                f"({', '.join(groups or ('any',))}); have {have}"
            )
        height, width, _ = pixels.shape
        found = np.zeros((height, width), bool)
        for region in wanted:
            found |= _filled(region.polygon, height, width)
        return found

    return mask


def _filled(polygon: BaseGeometry, height: int, width: int) -> np.ndarray:
    """Pixels whose centre lies inside, bool [h, w]: even-odd, line by line.

    Each edge crosses lines of pixel centres; inside and outside alternate at each
    crossing.
    """
    crossings = np.zeros((height, width + 1), np.int32)
    rings = shapely.get_rings(shapely.get_parts(polygon))
    for ring in rings:
        corners = shapely.get_coordinates(ring) - 0.5
        for (x0, y0), (x1, y1) in itertools.pairwise(corners):
            low, high = sorted((y0, y1))
            first, last = np.clip(np.ceil([low, high]), 0, height).astype(int)
            lines = np.arange(first, last)
            if len(lines):
                x = x0 + (lines - y0) * (x1 - x0) / (y1 - y0)
                columns = np.clip(np.ceil(x), 0, width).astype(int)
                np.add.at(crossings, (lines, columns), 1)
    return crossings[:, :width].cumsum(axis=1) % 2 == 1
