"""Tiles where other software has put its own, in place of those of the grid.

Features that were extracted on another grid (CLAM begins one at each contour) are
evaluated, compared and joined on their own tiles: planned here, these take classes from
annotations, and encoders embed them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from mshisto_ray.config import InputError
from mshisto_ray.slides import Level, SlideError
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.links import read_places
from mshisto_ray.store.same_place import read_corners
from mshisto_ray.tiling.grid import ScalePlan, integral_of
from mshisto_ray.tiling.recipe import TilingRecipe
from mshisto_ray.tiling.resolution import resolve

# Their side is taken as it is, not the nearest whole number of a level's pixels.
_EXACTLY = 1e-9


def open_places(path: Path, recipe: TilingRecipe) -> EmbeddingDirectory:
    """The features whose tiles are planned.

    Raises:
        InputError: not imported, or of another scale or side than the recipe's.
    """
    directory = EmbeddingDirectory(path)
    if not directory.is_imported:
        raise InputError(
            f"places: {path} was embedded here: give its tiles directory where tiles "
            "are wanted; places are those of features that import_h5 took over"
        )
    if list(recipe.scales) != directory.scales:
        have = ", ".join(f"{scale:g}" for scale in directory.scales)
        raise InputError(f"scales: the tiles of {path} are at {have} um/px: [{have}]")
    side = directory.manifest.recipe["tiles"]["tile_px"]
    if recipe.tile_px != side:
        raise InputError(f"tile_px: the tiles of {path} are of {side} px: give {side}")
    return directory


def plan_places(
    path: Path,
    slide_id: str,
    mpp: float,
    levels: Sequence[Level],
    tissue: np.ndarray,
    span: float,
    recipe: TilingRecipe,
) -> list[ScalePlan]:
    """The plan of a slide's imported tiles; all are ``own``, however little tissue.

    Args:
        path: of their features.
        slide_id: slide.
        mpp: micrometres per level-0 pixel.
        levels: native levels.
        tissue: bool [h, w] mask over the slide from its corner (0, 0).
        span: level-0 pixels per mask pixel.
        recipe: with the scale and side of the tiles.

    Raises:
        SlideError: ``NoPlaces``: the slide has no imported features.
    """
    directory = open_places(path, recipe)
    (scale,) = recipe.scales
    if slide_id not in directory.patient_ids or not directory.num_rows(slide_id, scale):
        raise SlideError(
            "NoPlaces",
            f"{path} has no features of it: import them, or leave the slide out",
        )
    corners = read_corners(directory, slide_id, scale)
    row, col = read_places(directory, slide_id, scale)
    extent = float(np.median(corners.extent))
    size = (levels[0].width, levels[0].height)
    (reading,) = resolve(
        mpp, levels, [mpp * extent / recipe.tile_px], recipe.tile_px, _EXACTLY
    )
    return [
        ScalePlan(
            replace(reading, mpp=scale, extent=extent),
            row.astype(np.int32),
            col.astype(np.int32),
            corners.x,
            corners.y,
            _shares(tissue, span, size, corners.x, corners.y, extent),
            np.ones(len(row), bool),
            (np.arange(len(row)) // recipe.chunk_tiles).astype(np.int32),
            float(tissue.sum() * (span / extent) ** 2),
        )
    ]


def _shares(
    tissue: np.ndarray,
    span: float,
    size: tuple[int, int],
    x: np.ndarray,
    y: np.ndarray,
    extent: float,
) -> np.ndarray:
    """Share of each tile that is tissue, float32 [N]; beyond the slide there is none.

    Of an integral image, as those of the grid, but at each tile's own corners.
    """
    integral = integral_of(tissue)
    lines = []
    for start, side in ((y, size[1]), (x, size[0])):
        both = np.stack([start, start + extent])
        lines.append(np.minimum(both, side) / span)
    (top, bottom), (left, right) = lines
    at: list[np.ndarray] = [
        ndimage.map_coordinates(integral, line, order=1, mode="nearest")
        for line in ((bottom, right), (top, right), (bottom, left), (top, left))
    ]
    inside = at[0] - at[1] - at[2] + at[3]
    return np.clip(inside * (span / extent) ** 2, 0, 1).astype(np.float32)
