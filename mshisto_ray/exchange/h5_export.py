"""A slide's embeddings as a file of features of TRIDENT or CLAM describes them."""

from __future__ import annotations

import numpy as np

from mshisto_ray.exchange.h5 import H5Features, TileShape
from mshisto_ray.store.embeddings import TileEmbeddings


def to_features(tiles: TileEmbeddings, tile_px: int) -> H5Features:
    """Tiles of a slide at one scale; ``tile_px``: their side as embedded."""
    extent = float(tiles.extent[0]) if len(tiles.extent) else float(tile_px)
    shape = TileShape(extent, _step(tiles, extent), tile_px)
    return H5Features(tiles.x, tiles.y, tiles.values, shape)


def _step(tiles: TileEmbeddings, extent: float) -> float:
    """Level-0 pixels from a tile to the next: less than ``extent`` if tiles overlap.

    Imported tiles may overlap, and only their places tell; where these fit no grid
    (CLAM's start anew at each contour), tiles lie side by side.
    """
    at = np.concatenate([tiles.y, tiles.x]).astype(float)
    cell = np.concatenate([tiles.row, tiles.col]).astype(float)
    if not cell.any():
        return extent
    step = float(at @ cell / (cell @ cell))
    return step if np.abs(at - cell * step).max() < 1 else extent
