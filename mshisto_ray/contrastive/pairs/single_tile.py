"""Tiles one by one, for a loss that remembers every tile."""

from __future__ import annotations

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.training.draws import choose, uniforms
from mshisto_ray.training.tile_index import TileIndex

SINGLE = True


class SingleTiles:
    """Tiles uniform over the cohort, each in one augmentation; no two are alike.

    A pair is two different tiles.

    Source: Wu et al. 2018, who go through the tiles in turn rather than draw them.
    """

    def __init__(self, index: TileIndex):
        self._index = index

    def draw(self, seed: int, step: int, pairs: np.ndarray) -> np.ndarray:
        """Tiles [P, 2], two different ones each."""
        uniform = uniforms(seed, "pairs", step, int(pairs.max()) + 1, 2)[pairs]
        num = len(self._index)
        first = choose(uniform[:, 0], np.full(len(pairs), num))
        further = choose(uniform[:, 1], np.full(len(pairs), num - 1))
        return np.stack([first, (first + 1 + further) % num], axis=1)

    def relations(
        self, tiles: np.ndarray, pairs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The relations: different tiles are negative, none is positive."""
        flat = tiles.reshape(-1)
        differ = flat[:, None] != flat
        return np.zeros_like(differ), differ

    def check(self, num_pairs: int) -> None:
        """Refuse tiles of which there are no two."""
        if len(self._index) < 2:
            raise InputError("pairs: single_tile needs two tiles")


def build(index: TileIndex) -> SingleTiles:
    """Tiles one by one, for ``memory_bank``."""
    return SingleTiles(index)
