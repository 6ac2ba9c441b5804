"""Whether tiles of two directories lie in the same place, where one was imported.

Embeddings made here are of the same tiles if the recipes of these are equal. Imported
features have a recipe of their own; their grids agree with others if the corners do.
Coarser tiles need no common grid: the parent of a tile is the one around its centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import KDTree

from mshisto_ray.config import InputError
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.shards import read_shard

# Of a tile's side: what rounding of corners and of resolutions may differ by.
_APART, _EXTENTS = 0.05, 0.02
# Tiles whose centres are as near as another's to this share of a level-0 pixel.
_TIE = 1e-6
# Tiles nearest to a point that are looked at: four may meet in it.
_MOST = 16


@dataclass(frozen=True)
class Corners:
    """Corners ``x``, ``y`` and sides ``extent`` of tiles in level-0 pixels, [N]."""

    x: np.ndarray
    y: np.ndarray
    extent: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Corners:
        return Corners(self.x[rows], self.y[rows], self.extent[rows])


@dataclass(frozen=True)
class Parents:
    """The coarser tile around the centre of each tile.

    ``rows``: int64 [N], -1: none; ``ties``: tiles with two equally near.
    """

    rows: np.ndarray
    ties: int


def read_corners(
    directory: EmbeddingDirectory, slide_id: str, mpp: float, own_only: bool = False
) -> Corners:
    """Corners of a slide's tiles at a scale, sorted by (row, col)."""
    names = ["row", "col", "x", "y", "extent", "own"]
    tables = [read_shard(path, names, mpp) for path in directory.shards(slide_id)]
    row, col, x, y, extent, own = (
        np.concatenate([table[name].to_numpy() for table in tables]) for name in names
    )
    order = np.lexsort((col, row))
    return Corners(x, y, extent)[order[own[order]] if own_only else order]


def find_parents(coarse: Corners, fine: Corners, ratio: float | None) -> Parents:
    """The coarser tile that holds each tile's centre, on whatever grids both lie.

    A tile holds its left and top edge, not the others. Of several, where coarser tiles
    overlap, the one whose centre is nearest, along the axis on which it is farther; of
    equally near ones the first. On one grid this is (row // k, col // k).

    Args:
        coarse: sorted by (row, col), of one side.
        fine: tiles, or points: squares of side 0.
        ratio: of the sides; other tiles hold none. None: any.
    """
    rows = np.full(len(fine.x), -1)
    if not len(coarse.x) or not len(fine.x):
        return Parents(rows, 0)
    middles, centres = (
        np.stack([one.x + one.extent / 2, one.y + one.extent / 2], 1)
        for one in (coarse, fine)
    )
    num = min(_MOST, len(coarse.x))
    # Of one neighbour the query gives no axis.
    away, index = (
        np.reshape(found, (-1, num))
        for found in KDTree(middles).query(centres, num, p=np.inf)
    )
    side = coarse.extent[index]
    for start, centre in ((coarse.x, centres[:, :1]), (coarse.y, centres[:, 1:])):
        inside = (start[index] <= centre) & (centre < start[index] + side)
        away[~inside] = np.inf
    if ratio is not None:
        away[np.abs(side / (ratio * fine.extent[:, None]) - 1) > _EXTENTS] = np.inf
    held = np.isfinite(away).any(axis=1)
    nearest = away <= away.min(axis=1, keepdims=True) + _TIE
    first = np.where(nearest, index, len(coarse.x)).min(axis=1)
    rows[held] = first[held]
    return Parents(rows, int((nearest.sum(axis=1) > 1)[held].sum()))


def sides_ratio(
    coarse: EmbeddingDirectory, fine: EmbeddingDirectory, factor: int
) -> float:
    """How many times the side of a tile is that of another, ``factor`` times finer."""
    px = [d.manifest.recipe["tiles"]["tile_px"] for d in (coarse, fine)]
    return factor * px[0] / px[1]


def are_same(ones: Corners, others: Corners) -> np.ndarray:
    """Whether tiles are the same ones, pair by pair, bool [N]."""
    side = others.extent
    fits = np.abs(ones.extent / side - 1) <= _EXTENTS
    for start, other in ((ones.x, others.x), (ones.y, others.y)):
        apart = start + ones.extent - other - side
        fits &= (start - other <= _APART * side) & (apart >= -_APART * side)
    return fits


def check_places(
    key: str,
    directories: Sequence[Path],
    corners: Sequence[Corners],
    fits: np.ndarray,
) -> None:
    """Raise InputError where tiles, linked by row and column, lie apart.

    Args:
        key: of the config, which the message begins with.
        directories: of the ones, of the others.
        corners: of the ones, of the others, [N] each.
        fits: ``are_same`` of them.
    """
    if not len(fits) or 2 * fits.sum() >= len(fits):
        return
    sides = [float(np.median(found.extent)) for found in corners]
    raise InputError(
        f"{key}: most tiles of {directories[1]} ({sides[1]:g} level-0 px) do not "
        f"lie where those of {directories[0]} ({sides[0]:g} px) do: give "
        "directories of the same tiles; of imported features, extract both on one grid "
        "that starts at the slide's corner, with tiles of the same size, or embed here "
        "the tiles of the features: mshisto tile places=FEATURES"
    )


def check_parents(
    key: str,
    directories: Sequence[Path],
    corners: Sequence[Corners],
    parents: Parents,
    ratio: float,
) -> None:
    """Raise InputError where most tiles have no parent; ``directories`` as above."""
    found = parents.rows >= 0
    if not len(found) or 2 * found.sum() >= len(found):
        return
    sides = [float(np.median(one.extent)) if len(one.x) else 0.0 for one in corners]
    raise InputError(
        f"{key}: most tiles of {directories[1]} ({sides[1]:g} level-0 px) have their "
        f"centre in no tile of {directories[0]} ({sides[0]:g} px; wanted are "
        f"{ratio * sides[1]:g}): extract the coarser scale all over the same tissue "
        "and slides, and give each import its own mpp and tile_px"
    )
