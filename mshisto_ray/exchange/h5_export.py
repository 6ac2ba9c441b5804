"""A slide's embeddings as the features of a TRIDENT or CLAM file."""

from __future__ import annotations

import numpy as np

from mshisto_ray.exchange.h5 import H5Features, TileShape
from mshisto_ray.store.embeddings import TileEmbeddings


def to_features(tiles: TileEmbeddings, tile_px: int) -> H5Features:
    """Features of a slide's tiles at one scale; ``tile_px``: side as embedded."""
    extent = float(tiles.extent[0]) if len(tiles.extent) else float(tile_px)
    shape = TileShape(extent, _step(tiles, extent), tile_px)
    return H5Features(tiles.x, tiles.y, tiles.values, shape)


def _step(tiles: TileEmbeddings, extent: float) -> float:
    """Level-0 pixels from a tile to the next: less than ``extent`` if tiles overlap.

    Imported tiles may overlap, which only their coordinates show; if these fit no
    grid (CLAM starts a new one at each contour), tiles are taken as adjacent.
    """
    at = np.concatenate([tiles.y, tiles.x]).astype(float)
    cell = np.concatenate([tiles.row, tiles.col]).astype(float)
    if not cell.any():
        return extent
    step = float(at @ cell / (cell @ cell))
    return step if np.abs(at - cell * step).max() < 1 else extent
