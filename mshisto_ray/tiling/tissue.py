"""A slide's tissue: detected on its thumbnail, or drawn as its annotation."""

from __future__ import annotations

import numpy as np

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
