"""The map, regions and points of one class on one slide, and how right they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from mshisto_ray.evaluation.froc import SlideHits, match_lesions, match_points
from mshisto_ray.evaluation.overlap import areas
from mshisto_ray.exchange.geojson import FoundObject
from mshisto_ray.maps.measures import SlideMeasure
from mshisto_ray.maps.peaks import Peaks, find_peaks
from mshisto_ray.maps.probability_map import ProbabilityMap, make_map
from mshisto_ray.maps.regions import FoundRegion, find_regions
from mshisto_ray.maps.source import SlideScores


@dataclass(frozen=True)
class Settings:
    """How maps become regions and points; lengths in micrometres.

    ``peak_um``, ``tolerance_um``: None: two sides, half a side of a tile.
    """

    smooth_um: float
    threshold: float
    min_area_mm2: float
    peak_um: float | None
    peak_threshold: float
    tolerance_um: float | None


@dataclass(frozen=True)
class SlideMap:
    """A class on a slide. ``mpp``: of level 0; ``peaks``: of any score."""

    name: str
    scores: SlideScores
    mpp: float
    probability: ProbabilityMap
    regions: Sequence[FoundRegion]
    peaks: Peaks

    def objects(self, threshold: float) -> list[FoundObject]:
        """Regions, and points of at least ``threshold``, for QuPath."""
        shown = self.peaks.least(threshold)
        found = [
            FoundObject(
                self.name,
                region.polygon,
                {
                    "mean probability": region.mean,
                    "highest probability": region.highest,
                    "area mm2": region.polygon.area * _mm2(self.mpp),
                },
            )
            for region in self.regions
        ]
        points = zip(shown.x, shown.y, shown.scores.tolist(), strict=True)
        return found + [
            FoundObject(self.name, shapely.Point(x, y), {"probability": score})
            for x, y, score in points
        ]


def map_slide(
    scores: SlideScores,
    name: str,
    column: int,
    mpp: float,
    size: tuple[int, int],
    settings: Settings,
) -> SlideMap:
    """The map of a class with its regions and peaks.

    Args:
        scores: of the slide's tiles.
        name: of the class.
        column: of its probabilities.
        mpp: level-0 micrometres per pixel.
        size: width and height of the slide in level-0 pixels.
        settings: lengths and thresholds.
    """
    raw = make_map(
        scores.row, scores.col, scores.probabilities[:, column], scores.extent
    )
    side = scores.extent * mpp
    found = raw.smoothed(settings.smooth_um / side)
    least = settings.min_area_mm2 / _mm2(mpp)
    apart = (settings.peak_um or 2 * side) / mpp
    regions = find_regions(found, settings.threshold, size, least)
    return SlideMap(name, scores, mpp, found, regions, find_peaks(found, apart))


def measure_slide(
    found: SlideMap,
    patient_id: str,
    annotated: Sequence[BaseGeometry] | None,
    points: np.ndarray | None,
    settings: Settings,
) -> tuple[SlideMeasure, np.ndarray | None]:
    """Compare with the truth; returns also the target of each peak, -1: none.

    Args:
        found: the map.
        patient_id: of the slide.
        annotated: connected areas of the class, each a lesion; None: not known.
        points: true points [N, 2] in level-0 pixels, which take the place of lesions
            as targets of peaks; None: not known.
        settings: lengths and thresholds.
    """
    scale = _mm2(found.mpp)
    extent = found.scores.extent
    mapped = len(found.scores.row) * extent**2 * scale
    own = [region.polygon for region in found.regions]
    area = None
    if annotated is not None:
        one, other, both = (part * scale for part in areas(own, annotated))
        area = one, other, both
    near = settings.tolerance_um
    near = extent / 2 if near is None else near / found.mpp
    peaks, target, num = found.peaks, None, 0
    if points is not None:
        target = match_points(peaks.x, peaks.y, peaks.scores, points, near)
        num = len(points)
    elif annotated is not None:
        target = match_lesions(peaks.x, peaks.y, annotated, near)
        num = len(annotated)
    hits = None
    if target is not None:
        hits = SlideHits(peaks.scores, target, num, mapped)
    covered = sum(polygon.area for polygon in own) * scale
    slide_id, mpp = found.scores.slide_id, found.scores.mpp
    measured = SlideMeasure(
        slide_id, patient_id, found.name, mpp, mapped, covered, area, hits
    )
    return measured, target


def _mm2(mpp: float) -> float:
    """Square millimetres of a level-0 pixel."""
    return (mpp / 1000) ** 2
