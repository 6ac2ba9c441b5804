"""Two augmentations of one tile as a positive pair; every other tile is negative."""

from __future__ import annotations

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.training.draws import choose, uniforms
from mshisto_ray.training.tile_index import TileIndex


class SameTilePairs:
    """Instance discrimination: tiles uniform over the cohort, each drawn twice.

    Source: the baseline of Gildenblat and Klaiman 2019 (Wu et al. 2018), with the
    batch in place of a memory bank.
    """

    def __init__(self, index: TileIndex):
        self._index = index

    def draw(self, seed: int, step: int, pairs: np.ndarray) -> np.ndarray:
        """Tiles [P, 2], both the same."""
        uniform = uniforms(seed, "pairs", step, int(pairs.max()) + 1, 1)[pairs, 0]
        tile = choose(uniform, np.full(len(pairs), len(self._index)))
        return np.stack([tile, tile], axis=1)

    def relations(
        self, tiles: np.ndarray, pairs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The relations: the same tile is positive, any other one negative."""
        flat = tiles.reshape(-1)
        same = flat[:, None] == flat
        return same & ~np.eye(len(flat), dtype=bool), ~same

    def check(self, num_pairs: int) -> None:
        """Refuse batches without negatives."""
        if num_pairs < 2 or len(self._index) < 2:
            raise InputError("pairs: same_tile needs two tiles a batch: batch_size 4")


def build(index: TileIndex) -> SameTilePairs:
    """Pairs of a tile with itself."""
    return SameTilePairs(index)
