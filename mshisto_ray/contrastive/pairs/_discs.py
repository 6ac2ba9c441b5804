"""Uniform draws of tiles near to or far from a tile, exact and without rejection.

The tiles within a distance are a run of each of a few rows of the slide's grid. Both
the disc and its complement are counted and indexed through these runs: the cost
depends on distance over tile size, not on the slide or the cohort.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from mshisto_ray.training.draws import choose
from mshisto_ray.training.tile_index import TileIndex

Metric = Literal["euclidean", "chebyshev"]
# Thresholds are often whole tile widths, where rounding must not decide.
_SLACK = 1e-9


@dataclass(frozen=True)
class _Runs:
    """Runs of tiles within a distance of M tiles, in raster order, [M, R] each."""

    start: np.ndarray
    length: np.ndarray


def near_counts(
    index: TileIndex, tiles: np.ndarray, near_um: float, metric: Metric
) -> np.ndarray:
    """The number of other tiles of the layer at most ``near_um`` away, [M]."""
    return _near(index, tiles, near_um, metric).length.sum(axis=1) - 1


def draw_near(
    index: TileIndex,
    tiles: np.ndarray,
    near_um: float,
    metric: Metric,
    uniform: np.ndarray,
) -> np.ndarray:
    """Draw a tile at most ``near_um`` away for each tile [M]; -1 if there is none."""
    runs = _near(index, tiles, near_um, metric)
    ends = runs.length.cumsum(axis=1)
    counts = ends[:, -1] - 1
    place = choose(uniform, counts)
    # The tile itself lies in the middle run and is skipped.
    middle = runs.length.shape[1] // 2
    before = ends[:, middle] - runs.length[:, middle]
    own = before + tiles - runs.start[:, middle]
    place += place >= own
    run = (ends <= place[:, None]).sum(axis=1).clip(max=runs.length.shape[1] - 1)
    at = np.arange(len(tiles))
    found = runs.start[at, run] + place - (ends[at, run] - runs.length[at, run])
    return np.where(counts > 0, found, -1)


def far_counts(
    index: TileIndex, tiles: np.ndarray, far_um: float, metric: Metric
) -> np.ndarray:
    """The number of tiles of the layer at least ``far_um`` away, [M]."""
    held = index.sizes()[index.layer(tiles)]
    return held - _nearer(index, tiles, far_um, metric).length.sum(axis=1)


def draw_far(
    index: TileIndex,
    tiles: np.ndarray,
    far_um: float,
    metric: Metric,
    uniform: np.ndarray,
) -> np.ndarray:
    """Draw a tile at least ``far_um`` away for each tile [M]; -1 if there is none."""
    runs = _nearer(index, tiles, far_um, metric)
    layer = index.layer(tiles)
    start = index.starts[layer]
    counts = index.sizes()[layer] - runs.length.sum(axis=1)
    place = choose(uniform, counts)
    skipped = runs.length.cumsum(axis=1) - runs.length
    # Far tiles that come before each run; runs at or before the place are skipped.
    before = runs.start - start[:, None] - skipped
    passed = np.where(before <= place[:, None], runs.length, 0).sum(axis=1)
    return np.where(counts > 0, start + place + passed, -1)


def reach_um(index: TileIndex, layer: int, metric: Metric) -> np.ndarray:
    """Distance from each tile of a layer to the one farthest from it, [N].

    The farthest point of a set is a corner of its convex hull.
    """
    tiles = np.arange(index.starts[layer], index.starts[layer + 1])
    centres = index.centre_um(tiles)
    reach = np.zeros(len(tiles))
    for corner in _corners(centres):
        delta = abs(centres - corner)
        apart = delta.max(axis=1) if metric == "chebyshev" else np.hypot(*delta.T)
        np.maximum(reach, apart, out=reach)
    return reach


def spans(index: TileIndex, layer: int, far_um: float) -> bool:
    """Whether two tiles of a layer have centres at least ``far_um`` apart.

    The two farthest points of a set are corners of its convex hull.
    """
    tiles = np.arange(index.starts[layer], index.starts[layer + 1])
    corners = _corners(index.centre_um(tiles))
    delta = corners[:, None] - corners
    apart = np.hypot(delta[..., 0], delta[..., 1])
    return bool((apart >= far_um * (1 - _SLACK)).any())


def _corners(points: np.ndarray) -> np.ndarray:
    try:
        return points[ConvexHull(points).vertices]
    except (QhullError, ValueError):  # fewer than three, or all on a line
        order = np.lexsort(points.T)
        return points[order[[0, -1]]] if len(points) else points


def _near(index: TileIndex, tiles: np.ndarray, limit_um: float, metric: Metric):
    """Runs with distance <= limit."""
    ratio = limit_um / index.pitch(tiles) * (1 + _SLACK)
    rows = _rows(index, tiles, ratio)
    if metric == "chebyshev":
        half = np.floor(ratio)[:, None] + 0 * rows
    else:
        half = np.floor(np.sqrt(np.maximum(ratio[:, None] ** 2 - rows**2, 0)))
    return _runs(index, tiles, rows, np.where(abs(rows) <= ratio[:, None], half, -1))


def _nearer(index: TileIndex, tiles: np.ndarray, limit_um: float, metric: Metric):
    """Runs with distance < limit."""
    ratio = limit_um / index.pitch(tiles) * (1 - _SLACK)
    rows = _rows(index, tiles, ratio)
    if metric == "chebyshev":
        half = np.ceil(ratio)[:, None] - 1 + 0 * rows
    else:
        half = np.ceil(np.sqrt(np.maximum(ratio[:, None] ** 2 - rows**2, 0))) - 1
    return _runs(index, tiles, rows, np.where(abs(rows) < ratio[:, None], half, -1))


def _rows(index: TileIndex, tiles: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Offsets of rows within reach; none beyond the extent of the tiles' layers."""
    layers = np.unique(index.layer(tiles))
    first, last = (
        index.row(index.starts[layers]),
        index.row(index.starts[layers + 1] - 1),
    )
    extent = (last - first).max(initial=0)
    reach = int(min(np.ceil(ratio.max(initial=0)), extent))
    return np.arange(-reach, reach + 1)[None, :]


def _runs(
    index: TileIndex, tiles: np.ndarray, rows: np.ndarray, half: np.ndarray
) -> _Runs:
    half = half.astype(np.int64)
    row = index.row(tiles)[:, None] + rows
    col = index.col(tiles)[:, None]
    layer = index.layer(tiles)[:, None]
    start, stop = index.run(layer, row, col - half, col + half)
    return _Runs(start, np.where(half < 0, 0, stop - start))
