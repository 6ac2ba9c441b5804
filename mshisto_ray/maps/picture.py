"""A probability map over its slide, with regions, points and annotation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from mshisto_ray.drawing.heatmap import Caption, ScoredTiles, draw_heatmap
from mshisto_ray.drawing.outlines import POINT, Outline
from mshisto_ray.maps.making import SlideMap
from mshisto_ray.maps.peaks import Peaks
from mshisto_ray.slides import Slide
from mshisto_ray.tiling.annotation import Region, outlines_of
from mshisto_ray.tiling.thumbnail import read_thumbnail

_MPP = 8.0
_CORNERS = 24
_RADIUS = 0.75  # of a point's circle, in sides of a tile


def draw_map(
    slide: Slide,
    found: SlideMap,
    annotated: Sequence[Region],
    threshold: float,
    peak_threshold: float,
) -> Image.Image:
    """The slide beside its map; regions, points and annotation on both.

    Args:
        slide: open slide.
        found: the map.
        annotated: regions of the class.
        threshold: least probability in a region.
        peak_threshold: least probability of a point that is shown.
    """
    thumbnail = read_thumbnail(slide, found.mpp, _MPP)
    scores = found.scores
    tiles = ScoredTiles(
        scores.col * scores.extent,
        scores.row * scores.extent,
        scores.extent,
        found.probability.at(scores.row, scores.col),
        "absolute",
    )
    regions = [Region("found region", region.polygon) for region in found.regions]
    known = [Region("annotated", region.polygon) for region in annotated]
    shown = found.peaks.least(peak_threshold)
    outlines = [
        *outlines_of(known),
        *outlines_of(regions),
        *_circles(shown, scores.extent),
    ]
    meaning = (
        f"Probability of {found.name} that the model gives to each tile at "
        f"{scores.mpp:g} um/px, from 0 to 1; below 0.5 transparent. "
        f"{len(regions)} regions, where it is at least {threshold:g}; {len(shown)} "
        f"points, its peaks of at least {peak_threshold:g}: a circle marks a place, "
        "not a size."
    )
    caption = Caption(f"{scores.slide_id}  {found.name}", found.name, meaning)
    return draw_heatmap(
        thumbnail.pixels, thumbnail.span, tiles, caption, found.mpp, outlines
    )


def _circles(peaks: Peaks, extent: float) -> list[Outline]:
    angle = np.linspace(0, 2 * np.pi, _CORNERS)
    ring = _RADIUS * extent * np.stack([np.cos(angle), np.sin(angle)], 1)
    centres = np.stack([peaks.x, peaks.y], 1)
    return [(POINT, centre + ring) for centre in centres]
