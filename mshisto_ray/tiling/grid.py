"""Planning: the tiles of each scale that are to be read, and the chunk of each.

Pure arithmetic on arrays. A tile is planned if its own tissue share reaches the
threshold (``own``) or if it is an ancestor of such a tile, so that every fine tile
has its parents. The parent of (row, col), k times coarser, is (row // k, col // k).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mshisto_ray.tiling.resolution import ScaleReading


@dataclass(frozen=True)
class ScalePlan:
    """Planned tiles of one scale in raster order, arrays [N].

    ``x, y``: level-0 pixels of the top-left corner, rounded; ``tissue``: share of the
    tile that is tissue, the outside of the slide counting as glass; ``whole``: the sum
    of these shares over the slide's every tile, planned or not.
    """

    reading: ScaleReading
    row: np.ndarray
    col: np.ndarray
    x: np.ndarray
    y: np.ndarray
    tissue: np.ndarray
    own: np.ndarray
    chunk: np.ndarray
    whole: float

    @property
    def coverage(self) -> float:
        """Share of the slide's tissue that lies inside own tiles, in [0, 1]."""
        inside = self.tissue[self.own].sum(dtype=np.float64)
        return min(1.0, float(inside / self.whole)) if self.whole else 0.0


def plan_tiles(
    tissue: np.ndarray,
    span: float,
    size: tuple[int, int],
    readings: Sequence[ScaleReading],
    threshold: float,
    chunk_tiles: int,
) -> list[ScalePlan]:
    """Plan the tiles of a slide at every scale.

    Args:
        tissue: bool [h, w] mask over the slide from its corner (0, 0).
        span: level-0 pixels per mask pixel.
        size: slide width and height in level-0 pixels.
        readings: scales served, finest first.
        threshold: least tissue share of an own tile, in (0, 1].
        chunk_tiles: target number of finest tiles per chunk.

    Returns:
        One plan per reading, finest first; all empty if no tile has enough tissue.
    """
    ratios = [round(r.extent / readings[0].extent) for r in readings]
    shares = [tissue_shares(tissue, span, size, readings[0].extent, ratios[-1])]
    for fine, coarse in itertools.pairwise(ratios):
        shares.append(_mean_of_children(shares[-1], coarse // fine))
    # A share of exactly the threshold must not be lost to a rounding error.
    owns = [share >= threshold - 1e-9 for share in shares]
    planned = [owns[0]]
    for own, (fine, coarse) in zip(owns[1:], itertools.pairwise(ratios), strict=True):
        planned.append(own | _any_child(planned[-1], coarse // fine))
    chunks = _chunks(planned[0], planned[-1], ratios[-1], chunk_tiles)
    plans = []
    for index, reading in enumerate(readings):
        row, col = np.nonzero(planned[index])
        cell = ratios[-1] // ratios[index]
        plans.append(
            ScalePlan(
                reading,
                row.astype(np.int32),
                col.astype(np.int32),
                np.rint(col * reading.extent).astype(np.int64),
                np.rint(row * reading.extent).astype(np.int64),
                shares[index][row, col].astype(np.float32),
                owns[index][row, col],
                chunks[row // cell, col // cell],
                float(shares[index].sum()),
            )
        )
    return plans


def tissue_shares(
    tissue: np.ndarray,
    span: float,
    size: tuple[int, int],
    extent: float,
    multiple: int,
) -> np.ndarray:
    """Exact tissue share of every finest tile, [rows, cols] padded to coarsest cells.

    One integral image, read between mask pixels by linear interpolation (the exact
    integral of a piecewise constant mask); grid lines beyond the slide add nothing.
    """
    width, height = size
    rows = math.ceil(height / (extent * multiple)) * multiple
    cols = math.ceil(width / (extent * multiple)) * multiple
    integral = integral_of(tissue)
    # Mask pixels past the slide's true edge are padding of the last block.
    row_lines = np.minimum(np.arange(rows + 1) * extent, height) / span
    col_lines = np.minimum(np.arange(cols + 1) * extent, width) / span
    at_lines = _interpolate(_interpolate(integral, row_lines, 0), col_lines, 1)
    return np.diff(np.diff(at_lines, axis=0), axis=1) * (span / extent) ** 2


def integral_of(tissue: np.ndarray) -> np.ndarray:
    """Sums of a mask [h, w] over all above and left of each corner, [h + 1, w + 1]."""
    integral = np.zeros((tissue.shape[0] + 1, tissue.shape[1] + 1))
    integral[1:, 1:] = tissue.cumsum(0, dtype=np.float64).cumsum(1)
    return integral


def _interpolate(table: np.ndarray, at: np.ndarray, axis: int) -> np.ndarray:
    at = np.minimum(at, table.shape[axis] - 1)
    low = np.minimum(np.floor(at).astype(np.int64), table.shape[axis] - 2)
    part = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
    below, above = table.take(low, axis), table.take(low + 1, axis)
    return below * (1 - part) + above * part


def _cells(grid: np.ndarray, k: int) -> np.ndarray:
    rows, cols = grid.shape
    return grid.reshape(rows // k, k, cols // k, k)


def _mean_of_children(shares: np.ndarray, k: int) -> np.ndarray:
    return _cells(shares, k).mean(axis=(1, 3))


def _any_child(planned: np.ndarray, k: int) -> np.ndarray:
    return np.asarray(_cells(planned, k).any(axis=(1, 3)))


def _chunks(
    finest: np.ndarray, coarsest: np.ndarray, k: int, chunk_tiles: int
) -> np.ndarray:
    """Chunk number of every coarsest cell in raster order, -1 where none is planned.

    A chunk is closed before the cell that would take it over ``chunk_tiles``; a cell
    is never split, so a chunk holds at least one.
    """
    counts = _cells(finest, k).sum(axis=(1, 3))
    chunks = np.full(coarsest.shape, -1, np.int32)
    chunk, held = 0, 0
    for row, col in np.argwhere(coarsest):
        if held and held + counts[row, col] > chunk_tiles:
            chunk, held = chunk + 1, 0
        chunks[row, col] = chunk
        held += counts[row, col]
    return chunks
