"""A slide's tissue: detected on its thumbnail, or drawn as its annotation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely

from mshisto_ray import components
from mshisto_ray.slides import Frame, SlideError
from mshisto_ray.store.cohort import CohortSlide
from mshisto_ray.store.failures import Failure
from mshisto_ray.tiling.annotation import (
    AnnotationError,
    Region,
    check_within,
    read_annotation,
    scaled,
)
from mshisto_ray.tiling.missing import enclosed_by
from mshisto_ray.tiling.recipe import TilingRecipe
from mshisto_ray.tiling.thumbnail import Thumbnail

MASKS = "mshisto_ray.tiling.tissue_masks"
# Shares of the regions below and above which their unit is doubted.
_ON_GLASS, _ON_TISSUE = 0.2, 0.8


def needs_annotation(recipe: TilingRecipe) -> bool:
    """Whether tissue is what the slide's annotation outlines."""
    return components.declaration(MASKS, recipe.tissue.name, "NEEDS_ANNOTATION", False)


def read_regions(
    row: CohortSlide, frame: Frame, recipe: TilingRecipe
) -> tuple[list[Region], list[Failure]]:
    """The slide's annotated regions in level-0 pixels, and failures to read them.

    Args:
        row: slide.
        frame: where the coordinates of other software start on it.
        recipe: decides whether the annotation is the tissue.

    Raises:
        SlideError: the annotation is the tissue, and is missing or unusable.
    """
    needed = needs_annotation(recipe)
    if row.annotation is None:
        if needed:
            raise SlideError(
                "NoAnnotation",
                "the annotation is to be the tissue, and the cohort's annotation "
                "column is empty for this slide: give an ASAP, ImageScope or NDPA "
                "XML or a GeoJSON, or leave the slide out",
            )
        return [], []
    try:
        regions = read_annotation(row.annotation, frame)
        check_within(regions, frame)
    except AnnotationError as error:
        if needed:
            raise SlideError("BadAnnotation", str(error)) from None
        message = f"{error}; the slide is tiled without its annotation"
        failure = Failure(row.slide_id, "tile", "input", "BadAnnotation", message)
        return [], [failure]
    return regions, []


def check_unit(
    row: CohortSlide,
    frame: Frame,
    regions: Sequence[Region],
    mpp: float,
    tissue: np.ndarray,
    span: float,
) -> list[Failure]:
    """A failure where regions lie on glass, and on tissue if they are micrometres.

    Coordinates in micrometres are those in pixels times ``mpp``: below 1 um/px they lie
    within the slide, nearer to its corner, where nothing else gives them away.

    Args:
        row: slide.
        frame: where its annotation counts from.
        regions: in what is taken for level-0 pixels.
        mpp: of level 0.
        tissue: mask, bool [h, w].
        span: level-0 pixels of a pixel of the mask.
    """
    if not regions:
        return []
    inner = shapely.point_on_surface([region.polygon for region in regions])
    given = shapely.get_coordinates(inner)
    origin = np.array(frame.origin, float)

    def share(points: np.ndarray) -> float:
        col, line = np.floor(points / span).astype(int).T
        height, width = tissue.shape
        held = (col >= 0) & (line >= 0) & (col < width) & (line < height)
        return float(tissue[line[held], col[held]].sum() / len(points))

    found, meant = share(given), share(origin + (given - origin) / mpp)
    if found > _ON_GLASS or meant < _ON_TISSUE:
        return []
    name = row.annotation.name if row.annotation else "annotation"
    message = (
        f"{name}: {1 - found:.0%} of {len(regions)} regions lie on glass, and "
        f"{meant:.0%} would lie on tissue if "
        "their coordinates were micrometres: export them in level-0 pixels; they are "
        "used as they are"
    )
    return [Failure(row.slide_id, "tile", "input", "AnnotationUnit", message)]


def find_tissue(
    thumbnail: Thumbnail, mpp: float, regions: list[Region], recipe: TilingRecipe
) -> np.ndarray:
    """Tissue mask, bool [h, w]; unreadable parts count as tissue unless it is drawn.

    Damaged parts of a slide may hold tissue, so that their tiles are tried, and so may
    parts that are missing from the file in the middle of tissue; others are glass.

    Raises:
        SlideError: the annotation holds no tissue.
    """
    find = components.build(MASKS, recipe.tissue)
    drawn = scaled(regions, thumbnail.span)
    try:
        tissue = find(thumbnail.pixels, mpp * thumbnail.span, drawn)
    except AnnotationError as error:
        raise SlideError("BadAnnotation", f"the annotation {error}") from None
    if needs_annotation(recipe):
        return tissue
    if thumbnail.missing.any():
        enclosed = enclosed_by(thumbnail.missing, tissue)
        tissue = (tissue & ~thumbnail.missing) | enclosed
    return tissue | ~thumbnail.readable
