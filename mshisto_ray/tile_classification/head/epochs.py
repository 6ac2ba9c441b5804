"""Epochs over tiles that need not fit into memory: shuffled windows of shuffled blocks.

The rows of an epoch, in the order of storage, are cut into blocks of neighbours. Blocks
are shuffled; as many as fill a window are read, each in one piece, and the window's
tiles are shuffled. What fits one window is shuffled wholly. Memory is that of a window,
and storage is read in runs, each tile once an epoch.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import numpy as np

from mshisto_ray.store.features import ArrayFeatures
from mshisto_ray.tile_classification.head.samples import TileSamples

_BLOCK = 256


class Epochs:
    """Batches of some of the samples, anew shuffled in every epoch.

    Args:
        samples: all tiles.
        index: those to draw from, sorted.
        window: tiles in memory at once.
        balanced: whether an epoch has as many tiles of each class, drawn with
            replacement; else each tile once.
    """

    def __init__(
        self, samples: TileSamples, index: np.ndarray, window: int, balanced: bool
    ):
        self._samples, self._index = samples, index
        self._window, self._balanced = window, balanced

    def batches(
        self, size: int, generator: np.random.Generator
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Values [b, D] as stored and classes [b]; only the last batch is smaller."""
        rows = self._draw(generator) if self._balanced else self._index
        left: list[tuple[np.ndarray, np.ndarray]] = []
        for values, target in self._windows(rows, generator):
            order, start = generator.permutation(len(target)), 0
            if left:  # fill up the batch that the last window left
                (old, codes), start = left.pop(), 0
                start = min(size - len(codes), len(order))
                chosen = order[:start]
                old = np.concatenate([old, values[chosen]])
                codes = np.concatenate([codes, target[chosen]])
                if len(codes) < size:
                    left = [(old, codes)]
                    continue
                yield old, codes
            whole = start + (len(order) - start) // size * size
            for first in range(start, whole, size):
                chosen = order[first : first + size]
                yield values[chosen], target[chosen]
            if whole < len(order):
                left = [(values[order[whole:]], target[order[whole:]])]
        yield from left

    def _windows(
        self, rows: np.ndarray, generator: np.random.Generator
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        blocks = self._blocks(rows)
        held: list[np.ndarray] = []
        count = 0
        for place in generator.permutation(len(blocks)):
            held.append(blocks[place])
            count += len(blocks[place])
            if count >= self._window:
                yield self._read(held)
                held, count = [], 0
        if held:
            yield self._read(held)

    def _blocks(self, rows: np.ndarray) -> list[np.ndarray]:
        if isinstance(self._samples.features, ArrayFeatures):
            return np.split(rows, np.arange(_BLOCK, len(rows), _BLOCK))
        # A slide's shards are read as a whole.
        return [own for _, own in self._samples.by_slide(rows)]

    def _read(self, blocks: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        rows = np.sort(np.concatenate(blocks))
        values = self._samples.read(rows)
        release(self._samples)
        return values, self._samples.target[rows]

    def _draw(self, generator: np.random.Generator) -> np.ndarray:
        target = self._samples.target[self._index]
        classes = np.unique(target)
        each = -(-len(self._index) // len(classes))
        drawn = [
            generator.choice(self._index[target == code], each, replace=True)
            for code in classes
        ]
        return np.sort(np.concatenate(drawn))


def release(samples: TileSamples) -> None:
    """Give back the pages of a mapped cache, which else count as this process's."""
    values = getattr(samples.features, "values", None)
    mapped = getattr(values, "_mmap", None)
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
