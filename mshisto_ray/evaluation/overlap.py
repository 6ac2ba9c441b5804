"""How far found regions and annotated regions cover each other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import shapely
from shapely.geometry.base import BaseGeometry


def areas(
    found: Sequence[BaseGeometry], annotated: Sequence[BaseGeometry]
) -> tuple[float, float, float]:
    """Areas of the found, the annotated, and of what is both; exact.

    Regions of one side that overlap each other count once.
    """
    one, other = shapely.union_all(list(found)), shapely.union_all(list(annotated))
    return one.area, other.area, shapely.intersection(one, other).area


def dice(found: float, annotated: float, both: float) -> float:
    """2 |A and B| / (|A| + |B|); NaN where both are empty."""
    return _ratio(2 * both, found + annotated)


def iou(found: float, annotated: float, both: float) -> float:
    """|A and B| / |A or B|, the Jaccard index; NaN where both are empty."""
    return _ratio(both, found + annotated - both)


def _ratio(top: float, bottom: float) -> float:
    return top / bottom if bottom else math.nan
