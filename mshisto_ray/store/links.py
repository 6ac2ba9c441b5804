"""Which finer tiles lie in which coarser tile, through a chain of scales."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.shards import read_shard


@dataclass(frozen=True)
class Children:
    """Finer tiles of one slide, parent by parent.

    ``rows``: int64 [M], indices into the slide's finer tiles (sorted by row and col);
    ``counts``: int64 [P], number of children of each parent. Parents are in the order
    of the next coarser scale: of its own ``rows``, or, for the coarsest, as stored.
    Tiles without a parent are left out.
    """

    rows: np.ndarray
    counts: np.ndarray


def link(num: int, parents: Sequence[np.ndarray]) -> list[Children]:
    """Children of a slide's tiles, scale by scale.

    Args:
        num: tiles of the coarsest scale.
        parents: of each tile of every finer scale, its parent among those of the next
            coarser one, or -1; both as stored, sorted by row and column.
    """
    # Position of each coarser tile in the order of parents; -1: left out.
    position = np.arange(num)
    num_parents = num
    found = []
    for parent in parents:
        held = np.flatnonzero(parent >= 0)
        above = position[parent[held]]
        held, above = held[above >= 0], above[above >= 0]
        rows = held[np.argsort(above, kind="stable")]
        found.append(Children(rows, np.bincount(above, minlength=num_parents)))
        position = np.full(len(parent), -1)
        position[rows] = np.arange(len(rows))
        num_parents = len(rows)
    return found


def grid_parents(
    places: Sequence[tuple[np.ndarray, np.ndarray]], factors: Sequence[int]
) -> list[np.ndarray]:
    """Parents in the slide's grid: (row // k, col // k) of each (row, col).

    Args:
        places: (row, col) of all tiles of each scale, coarsest first, sorted.
        factors: k between neighbouring scales.
    """
    return [
        find_places(coarse, (fine[0] // k, fine[1] // k))
        for (coarse, fine), k in zip(itertools.pairwise(places), factors, strict=True)
    ]


def read_places(
    directory: EmbeddingDirectory, slide_id: str, mpp: float, own_only: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """(row, col) of a slide's tiles at a scale, sorted, without embeddings."""
    tables = [
        read_shard(path, ["row", "col", "own"], mpp)
        for path in directory.shards(slide_id)
    ]
    row, col = (
        np.concatenate([table[name].to_numpy() for table in tables]).astype(np.int64)
        for name in ("row", "col")
    )
    order = np.lexsort((col, row))
    if own_only:
        own = np.concatenate([table["own"].to_numpy() for table in tables])
        order = order[own[order]]
    return row[order], col[order]


def read_member_places(
    directory: EmbeddingDirectory, mpp: float, index: int
) -> np.ndarray:
    """(row, col) of the own tiles of a slide, int64 [N, 2], by its place in the ids."""
    slide_id = directory.slide_ids[index]
    return np.stack(read_places(directory, slide_id, mpp, own_only=True), 1)


def find_places(
    tiles: tuple[np.ndarray, np.ndarray], wanted: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Index of each wanted (row, col) among sorted tiles, or -1."""
    if not len(tiles[0]):
        return np.full(len(wanted[0]), -1)
    wide = 1 + max(int(part.max(initial=0)) for part in (tiles[1], wanted[1]))
    have = tiles[0].astype(np.int64) * wide + tiles[1]
    want = wanted[0].astype(np.int64) * wide + wanted[1]
    index = np.minimum(np.searchsorted(have, want), len(have) - 1)
    return np.where(have[index] == want, index, -1)
