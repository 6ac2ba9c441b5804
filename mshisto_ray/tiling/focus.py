"""Sharpness of each tile's tissue, measured on a coarser level than its pixels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from mshisto_ray.slides import (
    Slide,
    SlideError,
    read_nearest,
)
from mshisto_ray.tiling.grid import ScalePlan

# Level pixels per measured pixel. More: the slide would have to be decoded whole;
# fewer: the level lacks the detail. Levels are rarely nominal.
_LEVEL_PX = (0.9, 3.0)
# The variance of fewer pixels is not meaningful.
_LEAST_TISSUE_PX = 16


def measure_focus(
    slide: Slide,
    plans: Sequence[ScalePlan],
    tissue: np.ndarray,
    span: float,
    tile_px: int,
    focus_mpp: float | None,
) -> list[np.ndarray]:
    """Variance of the Laplacian of 8-bit luma over each tile's tissue.

    Glass is left out: it is flat, so that a sharp tile that is half glass would seem
    blurred. Scores are comparable within a stain and a scanner; low ones mean blur or
    nothing but smooth tissue.

    Args:
        slide: open slide.
        plans: its tiles, finest scale first.
        tissue: bool [h, w] mask over the slide from its corner (0, 0).
        span: level-0 pixels per mask pixel.
        tile_px: side of a tile.
        focus_mpp: resolution at which sharpness is measured, um/px; None: not at all.

    Returns:
        float32 [tiles] per plan; NaN if unknown: no native level has 1/3 to 1.1 times
        ``focus_mpp``, the tile cannot be decoded, or too little of it is tissue.

    Source: Pech-Pacheco et al. 2000 (the variance of the Laplacian as focus measure).
    """
    found = [np.full(len(plan.row), np.nan, np.float32) for plan in plans]
    if focus_mpp is None:
        return found
    cells = plans[-1]
    extent = cells.reading.extent
    folds = [round(extent / plan.reading.extent) for plan in plans]
    px = max(round(tile_px * cells.reading.mpp / focus_mpp), 1)
    level = _level(slide, extent / px)
    if level is None or px // max(folds) < 4:
        return found
    shape = (int(cells.row.max()) + 1, int(cells.col.max()) + 1)
    grids = [np.full((shape[0] * k, shape[1] * k), np.nan, np.float32) for k in folds]
    for row, col, x, y in zip(cells.row, cells.col, cells.x, cells.y, strict=True):
        try:
            luma = _read_luma(slide, level, int(x), int(y), extent, px)
        except SlideError:
            continue  # reported when its tiles are read
        inside = _inside(slide, int(x), int(y), extent / px, px)
        counted = inside & _tissue_of(tissue, span, int(x), int(y), extent / px, px)
        sums = _sums(cv2.Laplacian(luma, cv2.CV_64F), counted)
        for grid, k in zip(grids, folds, strict=True):
            rows, cols = slice(row * k, row * k + k), slice(col * k, col * k + k)
            grid[rows, cols] = _variances(sums, k)
    return [grid[plan.row, plan.col] for grid, plan in zip(grids, plans, strict=True)]


def _level(slide: Slide, step: float) -> int | None:
    """The coarsest native level near enough to pixels of ``step`` level-0 pixels."""
    least, most = _LEVEL_PX
    near = [
        number
        for number, level in enumerate(slide.levels)
        if least <= step / level.downsample <= most
    ]
    return max(near, default=None)


def _read_luma(
    slide: Slide, level: int, x: int, y: int, extent: float, px: int
) -> np.ndarray:
    """Luma of a square, uint8 [px, px], cut to whole pixels of the level."""
    side = round(extent / slide.levels[level].downsample)
    luma = cv2.cvtColor(
        read_nearest(slide, level, x, y, side, side), cv2.COLOR_RGB2GRAY
    )
    return cv2.resize(luma, (px, px), interpolation=cv2.INTER_AREA)


def _tissue_of(
    tissue: np.ndarray, span: float, x: int, y: int, step: float, px: int
) -> np.ndarray:
    """Tissue at the centres of a cell's pixels, bool [px, px]."""
    centres = (np.arange(px) + 0.5) * step
    row = np.minimum(((y + centres) / span).astype(int), tissue.shape[0] - 1)
    col = np.minimum(((x + centres) / span).astype(int), tissue.shape[1] - 1)
    return tissue[np.ix_(row, col)]


def _inside(slide: Slide, x: int, y: int, step: float, px: int) -> np.ndarray:
    """Pixels whose four neighbours lie in the cell and on the slide, bool [px, px].

    Outside the slide is white, and its border would count as a sharp edge.
    """
    first = np.arange(px)
    whole = slide.levels[0]
    col = (first > 0) & (first < px - 1) & (x + (first + 2) * step <= whole.width)
    row = (first > 0) & (first < px - 1) & (y + (first + 2) * step <= whole.height)
    return row[:, None] & col


def _sums(values: np.ndarray, counted: np.ndarray) -> tuple[np.ndarray, ...]:
    """Number, sum and sum of squares of the counted values up to each place.

    float64 [px + 1, px + 1] each: exact, as the values are whole numbers.
    """
    weight = counted.astype(np.uint8)
    total, squares = cv2.integral2(values * weight)
    return cv2.integral(weight).astype(float), total, squares


def _variances(sums: Sequence[np.ndarray], k: int) -> np.ndarray:
    """Variance of the counted values in each of k x k equal parts; NaN if too few."""
    edges = np.arange(k + 1) * (len(sums[0]) - 1) // k
    count, total, squares = (
        np.diff(np.diff(one[np.ix_(edges, edges)], axis=0), axis=1) for one in sums
    )
    enough = count >= _LEAST_TISSUE_PX
    count = np.where(enough, count, 1)
    return np.where(enough, squares / count - (total / count) ** 2, np.nan)
