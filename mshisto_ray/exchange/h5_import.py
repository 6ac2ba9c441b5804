"""One slide's features from an HDF5 file, as rows of an embeddings directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from mshisto_ray.exchange.h5 import (
    H5Error,
    H5Features,
    TileShape,
    read_h5,
    read_tile_shape,
)
from mshisto_ray.slides import (
    Slide,
    checked_mpp,
    open_slide,
)
from mshisto_ray.store import schema
from mshisto_ray.store.cohort import CohortSlide
from mshisto_ray.store.failures import Failure
from mshisto_ray.store.shards import tensor_column

OpenSlide = Callable[[Path], Slide]

# Of fewer tiles side by side, the distance says little about the file.
_FEW = 8


@dataclass(frozen=True)
class ImportRecipe:
    """Settings shared by all slides; small and picklable.

    ``mpp`` scale of the tiles; ``tile_px`` their side as embedded; ``extent`` level-0
    pixels that they cover if no file records it; ``dim`` width D; ``dtype`` float16 or
    float32 of the shards; ``mpp_tolerance`` share by which a tile's resolution may
    differ from ``mpp``; ``check_slides`` whether tiles are checked against the slide.
    """

    mpp: float
    tile_px: int
    extent: float | None
    dim: int
    dtype: str
    mpp_tolerance: float
    check_slides: bool


def import_slide(
    row: CohortSlide,
    features: Path,
    coordinates: Path | None,
    recipe: ImportRecipe,
    open_slide: OpenSlide = open_slide,
    watching: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> tuple[pa.Table, list[Failure]]:
    """A slide's tiles, sorted by (row, col), and the failures of those left out.

    All are ``own``; their share of tissue is unknown (NaN).

    Args:
        row: slide.
        features: its file of features.
        coordinates: its file of coordinates, if the attributes are in that one.
        recipe: settings to check them against.
        open_slide: opens the slide.
        watching: entered while the files of features are read.

    Raises:
        H5Error: the file cannot be used, or is not of this slide.
        SlideError: the slide cannot be opened.
    """
    with watching():
        found = read_h5(features)
        shape = found.shape or (read_tile_shape(coordinates) if coordinates else None)
    if found.in_um:
        found = found.on_pixels(_mpp(features.name, row, recipe, open_slide))
        shape = found.shape
    if shape is None and recipe.extent is not None:
        shape = TileShape(recipe.extent, recipe.extent, None)
    _check(features.name, found, shape, recipe)
    assert shape
    if recipe.check_slides:
        _check_slide(features.name, row, open_slide(row.path), found, shape, recipe)
    line, col, has_cell = cells(found.x, found.y, shape.step)
    # What overflows, or is no number, becomes a failure.
    with np.errstate(over="ignore", invalid="ignore"):
        values = found.values.astype(recipe.dtype)
        is_finite = np.isfinite(values).all(axis=1)
        # No encoder gives exactly nothing: rows that were allocated, never written.
        is_written = (found.values != 0).any(axis=1)
    left_out = {
        (
            "SharedCell",
            "a tile nearer to the same cell of the grid was kept",
        ): ~has_cell,
        (
            "NotFinite",
            f"the features are not finite in {recipe.dtype}: use dtype: float32, or "
            "extract them again",
        ): has_cell & ~is_finite,
        ("AllZero", "features of zeros: extract it again"): has_cell & ~is_written,
    }
    failures = [
        Failure(
            row.slide_id, "import", "input", error,
            f"tile at x {found.x[i]}, y {found.y[i]}: {message}",
            mpp=recipe.mpp, row=int(line[i]), col=int(col[i]),
        )
        for (error, message), where in left_out.items()
        for i in np.flatnonzero(where).tolist()
    ]  # fmt: skip
    kept = np.lexsort((col, line))
    kept = kept[(has_cell & is_finite & is_written)[kept]]
    place = {"row": line, "col": col, "x": found.x, "y": found.y}
    place = {name: numbers[kept] for name, numbers in place.items()}
    return _table(row.slide_id, place, shape.extent, values[kept], recipe), failures


def _table(
    slide_id: str,
    place: Mapping[str, np.ndarray],
    extent: float,
    values: np.ndarray,
    recipe: ImportRecipe,
) -> pa.Table:
    """Rows of an embeddings shard: ``place`` of each tile, ``values`` [N, D]."""
    num = len(values)
    columns = [
        pa.array([slide_id] * num, pa.string()),
        np.full(num, recipe.mpp),
        place["row"].astype(np.int32),
        place["col"].astype(np.int32),
        place["x"],
        place["y"],
        np.full(num, extent),
        np.full(num, np.nan, np.float32),
        np.ones(num, bool),
        tensor_column(values),
    ]
    kind = schema.embeddings(recipe.dim, pa.from_numpy_dtype(values.dtype))
    return pa.table(columns, schema=kind)


def cells(
    x: np.ndarray, y: np.ndarray, step: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row and column of each tile in the slide's grid, and whether it is kept.

    The grid is anchored at (0, 0) and has a tile every ``step`` level-0 pixels. Tiles
    on it (TRIDENT's) have their own cell. CLAM starts a new grid at each contour: a
    tile is assigned to the nearest cell, and where contours meet two tiles may share
    one; the nearer tile is kept, the first if both are equally near.
    """
    line, col = (np.floor(v / step + 0.5).astype(np.int64) for v in (y, x))
    away = (x - col * step) ** 2 + (y - line * step) ** 2
    order = np.lexsort((away, col, line))
    is_first = np.ones(len(order), bool)
    is_first[1:] = np.diff(line[order]).astype(bool) | np.diff(col[order]).astype(bool)
    is_kept = np.zeros(len(order), bool)
    is_kept[order] = is_first
    return line, col, is_kept


def _check(
    name: str, found: H5Features, shape: TileShape | None, recipe: ImportRecipe
) -> None:
    if not len(found.values):
        raise H5Error("NoTiles", f"{name}: has no tiles: check the slide's tissue")
    if found.values.shape[1] != recipe.dim:
        raise H5Error(
            "OtherWidth",
            f"{name}: features have width {found.values.shape[1]}, those of the first "
            f"file {recipe.dim}: another encoder? import each encoder into its own out",
        )
    if shape is None:
        raise H5Error(
            "NoTileSize",
            f"{name}: does not record its tiles' size: give `coordinates` (CLAM's "
            "patches), or `extent` if all slides have the same",
        )
    apart = _spacing(found)
    if apart is not None and not 0.9 < apart / shape.step < 1.1:
        raise H5Error(
            "OtherScale",
            f"{name}: tiles lie {apart} px apart, and the file says {shape.step:g}: "
            "coordinates of another level? give them in level-0 pixels",
        )
    if shape.tile_px not in (None, recipe.tile_px):
        raise H5Error(
            "OtherTileSize",
            f"{name}: tiles of {shape.tile_px} px, tile_px is {recipe.tile_px}: "
            "correct tile_px, or import this size into another out",
        )


def _spacing(found: H5Features) -> int | None:
    """Distance of most tiles to the next in their row; None if there is no such one."""
    order = np.lexsort((found.x, found.y))
    x, y = found.x[order], found.y[order]
    apart = np.diff(x)[(np.diff(y) == 0) & (np.diff(x) > 0)]
    if len(apart) < _FEW:
        return None
    values, counts = np.unique(apart, return_counts=True)
    return int(values[counts.argmax()]) if counts.max() * 2 > len(apart) else None


def _mpp(
    name: str, row: CohortSlide, recipe: ImportRecipe, open_slide: OpenSlide
) -> float:
    """Micrometres per level-0 pixel of a slide, by which STAMP's places are divided."""
    if not recipe.check_slides:
        if row.mpp is None:
            raise H5Error(
                "NoMpp",
                f"{name}: places are in micrometres: give the slide's in the cohort's "
                "mpp column, or the slide and check_slides=true",
            )
        return row.mpp
    slide = open_slide(row.path)
    try:
        return checked_mpp(slide.mpp, row.mpp)
    finally:
        slide.close()


def _check_slide(
    name: str,
    row: CohortSlide,
    slide: Slide,
    found: H5Features,
    shape: TileShape,
    recipe: ImportRecipe,
) -> None:
    try:
        size = (slide.levels[0].width, slide.levels[0].height)
        mpp = checked_mpp(slide.mpp, row.mpp)
    finally:
        slide.close()
    outside = int(((found.x >= size[0]) | (found.y >= size[1])).sum())
    if outside:
        raise H5Error(
            "OutsideSlide",
            f"{name}: {outside} of {len(found.x)} tiles lie outside {row.path.name} "
            f"({size[0]} x {size[1]} px): features of another slide, or coordinates of "
            "another level?",
        )
    true_mpp = mpp * shape.extent / recipe.tile_px
    if abs(true_mpp / recipe.mpp - 1) > recipe.mpp_tolerance:
        raise H5Error(
            "OtherScale",
            f"{name}: tiles cover {shape.extent:g} px of {mpp:.4g} um, which is "
            f"{true_mpp:.4g} um/px at {recipe.tile_px} px, not {recipe.mpp:g}: correct "
            "mpp, or import this scale into another out",
        )
