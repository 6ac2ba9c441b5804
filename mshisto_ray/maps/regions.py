"""Regions of a probability map: what is probable enough, as polygons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from mshisto_ray.exchange.geojson import mask_polygons
from mshisto_ray.maps.probability_map import ProbabilityMap


@dataclass(frozen=True)
class FoundRegion:
    """A connected region, with its holes, in level-0 pixels.

    ``mean``, ``highest``: probability of its tiles.
    """

    polygon: BaseGeometry
    mean: float
    highest: float


def find_regions(
    found: ProbabilityMap, threshold: float, size: tuple[int, int], min_area: float = 0
) -> list[FoundRegion]:
    """Tiles of at least ``threshold``, joined along their edges.

    Tiles that touch at a corner alone are regions of their own.

    Args:
        found: the map, smoothed where that is wanted.
        threshold: least probability.
        size: width and height of the slide in level-0 pixels; what lies beyond is cut.
        min_area: smaller regions are left out, in square level-0 pixels.
    """
    mask = found.known & (found.values >= threshold)  # NaN compares as False
    polygons = mask_polygons(mask, found.span, size)
    rows, cols = np.nonzero(mask)
    middle = np.stack([cols, rows], 1) + 0.5
    tree = shapely.STRtree(np.asarray(shapely.points(middle * found.span)))
    regions = []
    for polygon in polygons:
        if polygon.area < min_area:
            continue
        held = tree.query(polygon, predicate="contains")
        # A tile cut by the slide's edge may have its centre beyond it.
        held = held if len(held) else tree.nearest(polygon.representative_point())
        values = found.values[rows[held], cols[held]]
        regions.append(FoundRegion(polygon, float(values.mean()), float(values.max())))
    return sorted(regions, key=lambda region: -region.polygon.area)
