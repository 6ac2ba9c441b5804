"""Whether tiles of two directories lie in the same place, where one was imported.

Embeddings made here are of the same tiles if the recipes of these are equal. Imported
features have a recipe of their own; their grids agree with others if the corners do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.shards import read_shard

# Of a tile's side: what rounding of corners and of resolutions may differ by.
_APART, _EXTENTS = 0.05, 0.02


@dataclass(frozen=True)
class Corners:
    """Corners ``x``, ``y`` and sides ``extent`` of tiles in level-0 pixels, [N]."""

    x: np.ndarray
    y: np.ndarray
    extent: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Corners:
        return Corners(self.x[rows], self.y[rows], self.extent[rows])


def read_corners(directory: EmbeddingDirectory, slide_id: str, mpp: float) -> Corners:
    """Corners of all tiles of a slide at a scale, sorted by (row, col)."""
    names = ["row", "col", "x", "y", "extent"]
    tables = [read_shard(path, names, mpp) for path in directory.shards(slide_id)]
    row, col, x, y, extent = (
        np.concatenate([table[name].to_numpy() for table in tables]) for name in names
    )
    return Corners(x, y, extent)[np.lexsort((col, row))]


def covers(coarse: Corners, fine: Corners, factor: int) -> np.ndarray:
    """Whether each tile lies in its parent, ``factor`` times its side, bool [N].

    A factor of 1: whether both are the same tile.
    """
    side, apart = fine.extent, _APART * fine.extent
    fits = np.abs(coarse.extent / (factor * side) - 1) <= _EXTENTS
    for start, inner in ((coarse.x, fine.x), (coarse.y, fine.y)):
        fits &= (start - apart <= inner) & (
            inner + side <= start + coarse.extent + apart
        )
    return fits


def check_places(
    key: str,
    directories: Sequence[Path],
    corners: Sequence[Corners],
    fits: np.ndarray,
) -> None:
    """Raise InputError where an import's tiles, linked by row and column, lie apart.

    Args:
        key: of the config, which the message begins with.
        directories: of the parents, of the tiles.
        corners: of the parents, of the tiles, [N] each.
        fits: ``covers`` of them.
    """
    if not len(fits) or 2 * fits.sum() >= len(fits):
        return
    sides = [float(np.median(found.extent)) for found in corners]
    raise InputError(
        f"{key}: most tiles of {directories[1]} ({sides[1]:g} level-0 px) do not "
        f"lie where those of {directories[0]} ({sides[0]:g} px) do: extract both "
        "on one grid that starts at the slide's corner, with tiles of the same size, "
        "or embed here the tiles of the features: mshisto tile places=FEATURES"
    )
