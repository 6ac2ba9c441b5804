"""The finer tiles of a tile: those of the next scale at its place."""

from __future__ import annotations

import numpy as np

from mshisto_ray.training.draws import choose
from mshisto_ray.training.tile_index import TileIndex


def with_finer(
    index: TileIndex, main: np.ndarray, coarse: int, uniform: np.ndarray
) -> np.ndarray:
    """Main tiles [P] with one of their finer tiles each, [P, 2]; else with themselves.

    Args:
        index: the tiles.
        main: tiles of the scale ``coarse``.
        coarse: number of that scale; the finer one is the number before it.
        uniform: draws the finer tile, [P] in [0, 1).
    """
    layer = index.layer(main)
    k = round(index.scales[coarse] / index.scales[coarse - 1])
    row = index.row(main)[:, None] * k + np.arange(k)
    col = index.col(main)[:, None] * k
    start, stop = index.run(layer[:, None] - 1, row, col, col + k - 1)
    ends = (stop - start).cumsum(axis=1)
    place = choose(uniform, ends[:, -1])
    run = (ends <= place[:, None]).sum(axis=1).clip(max=k - 1)
    at = np.arange(len(main))
    finer = stop[at, run] - (ends[at, run] - place)
    return np.stack([main, np.where(ends[:, -1] > 0, finer, main)], axis=1)
