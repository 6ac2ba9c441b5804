"""Plan one slide: from its file to its row of ``slides.parquet`` and its tiles."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mshisto_ray.slides import (
    Slide,
    SlideError,
    checked_mpp,
    frame_of,
    open_slide,
)
from mshisto_ray.store.cohort import CohortSlide
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.fingerprint import slide_fingerprint
from mshisto_ray.tiling.annotation import Region
from mshisto_ray.tiling.bright_field import check_bright_field
from mshisto_ray.tiling.focus import measure_focus
from mshisto_ray.tiling.grid import ScalePlan, plan_tiles
from mshisto_ray.tiling.missing import without_missing
from mshisto_ray.tiling.places import plan_places
from mshisto_ray.tiling.reader import (
    Opened,
    OpenSlide,
    difference,
    open_fastest,
    open_reference,
)
from mshisto_ray.tiling.recipe import TilingRecipe
from mshisto_ray.tiling.record import record_of, tables_of
from mshisto_ray.tiling.resolution import resolve, served_scales
from mshisto_ray.tiling.thumbnail import Thumbnail, read_thumbnail
from mshisto_ray.tiling.tissue import (
    check_unit,
    find_tissue,
    needs_annotation,
    read_regions,
)

_COMPARED_TILES = 8


@dataclass(frozen=True)
class TiledSlide:
    """A planned slide: its row of ``slides.parquet``, its tiles, its failures.

    ``regions``: of its annotation, in level-0 pixels; ``scales``: of the recipe, of
    which ``plans`` has those that the slide serves.
    """

    record: dict[str, Any]
    tiles: list[pa.Table]
    failures: list[Failure]
    thumbnail: Thumbnail
    tissue: np.ndarray
    plans: list[ScalePlan]
    focus: list[np.ndarray]
    regions: list[Region]
    scales: tuple[float, ...]


def tile_slide(
    row: CohortSlide,
    recipe: TilingRecipe,
    open_slide: OpenSlide = open_slide,
    fingerprint_of: Callable[[Path], str] = slide_fingerprint,
) -> TiledSlide:
    """Plan the tiles of a slide at every scale that it can serve.

    It is read by the reader that the recipe names, or by the fastest that supports the
    file and gives OpenSlide's pixels on random tissue, else by OpenSlide, or by the
    reader that declares a file which OpenSlide does not open; the record has the
    reason. Unreadable parts of the thumbnail count as tissue, so that the tiles there
    are tried and reported one by one.

    Raises:
        SlideError: nothing of the slide can be used; with the reason and the fix.
        OSError: the file cannot be reached.
    """
    fingerprint = fingerprint_of(row.path)
    opened = open_fastest(row.path, recipe.pixels, open_slide, recipe.reader)
    tiled = _tile(row, recipe, opened, fingerprint)
    if not opened.stands_in:
        return tiled
    places = _sample_own_tiles(tiled.plans, fingerprint)
    problem = difference(row.path, opened.reader, places, open_slide)
    if problem:
        reference = open_reference(row.path, problem, open_slide)
        return _tile(row, recipe, reference, fingerprint)
    return tiled


def _tile(
    row: CohortSlide, recipe: TilingRecipe, opened: Opened, fingerprint: str
) -> TiledSlide:
    slide = opened.slide
    try:
        mpp = checked_mpp(slide.mpp, row.mpp)
        served, failures = _served(row.slide_id, mpp, recipe)
        thumbnail = read_thumbnail(slide, mpp, recipe.thumbnail_mpp)
        check_bright_field(thumbnail)
        frame = frame_of(slide)
        regions, wrong = read_regions(row, frame, recipe)
        tissue = find_tissue(thumbnail, mpp, regions, recipe)
        wrong += check_unit(row, frame, regions, mpp, tissue, thumbnail.span)
        plans = (
            _plan(slide, mpp, served, thumbnail, tissue, recipe)
            if recipe.places is None
            else plan_places(
                recipe.places, row.slide_id, mpp, slide.levels, tissue,
                thumbnail.span, recipe,
            )
        )  # fmt: skip
        focus = measure_focus(
            slide, plans, tissue, thumbnail.span, recipe.tile_px, recipe.focus_mpp
        )
        plans, focus, lost = without_missing(
            row.slide_id, slide, plans, focus, tissue, thumbnail
        )
        record = record_of(row, opened, mpp, fingerprint, thumbnail, tissue, plans)
        if needs_annotation(recipe) and row.annotation:
            record["tissue_annotation"] = slide_fingerprint(row.annotation)
    finally:
        slide.close()
    tables = tables_of(row, plans, regions, focus)
    failures += wrong + lost
    return TiledSlide(
        record, tables, failures, thumbnail, tissue, plans, focus, regions,
        recipe.scales,
    )  # fmt: skip


def _served(
    slide_id: str, mpp: float, recipe: TilingRecipe
) -> tuple[list[float], list[Failure]]:
    """The scales that a slide serves, and a failure for each other one."""
    served, lacking = served_scales(mpp, recipe.scales, recipe.max_upsample)
    if not served:
        wanted = ", ".join(f"{scale:g}" for scale in recipe.scales)
        raise SlideError(
            "NoScale",
            f"scanned at {mpp:.4g} um/px, too coarse for every configured scale "
            f"({wanted} um/px): leave the slide out, or scan it at a higher "
            "magnification",
        )
    return served, [_scale_failure(slide_id, scale, mpp, recipe) for scale in lacking]


def _sample_own_tiles(plans: Sequence[ScalePlan], seed: str) -> list[tuple[int, int]]:
    """Corners x, y of randomly chosen own tiles, the same ones for the same seed."""
    plan = next(plan for plan in plans if plan.own.any())
    own = np.flatnonzero(plan.own)
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    chosen = rng.choice(own, min(_COMPARED_TILES, len(own)), replace=False)
    return [(int(plan.x[i]), int(plan.y[i])) for i in chosen]


def _plan(
    slide: Slide,
    mpp: float,
    served: Sequence[float],
    thumbnail: Thumbnail,
    tissue: np.ndarray,
    recipe: TilingRecipe,
) -> list[ScalePlan]:
    readings = resolve(
        mpp,
        slide.levels,
        served,
        recipe.tile_px,
        recipe.mpp_tolerance,
        recipe.pixels == "finest",
        recipe.max_upsample,
    )
    size = (slide.levels[0].width, slide.levels[0].height)
    plans = plan_tiles(
        tissue,
        thumbnail.span,
        size,
        readings,
        recipe.tissue_threshold,
        recipe.chunk_tiles,
    )
    if not any(len(plan.row) for plan in plans):
        raise SlideError(
            "NoTissue",
            f"no tile of {recipe.tile_px} px at {served[0]:g} um/px holds "
            f"{recipe.tissue_threshold:.0%} tissue (the mask covers {tissue.mean():.2%}"
            " of the slide): look at the slide; if there is tissue, lower "
            "tissue_threshold or change tissue",
        )
    return plans


def _scale_failure(
    slide_id: str, scale: float, mpp: float, recipe: TilingRecipe
) -> Failure:
    message = (
        f"scanned at {mpp:.4g} um/px, too coarse for {scale:g} um/px (more than "
        f"max_upsample {recipe.max_upsample:g}): leave the scale or the slide out, or "
        "scan it at a higher magnification"
    )
    return Failure(slide_id, "tile", "input", "NoScale", message, mpp=scale)
