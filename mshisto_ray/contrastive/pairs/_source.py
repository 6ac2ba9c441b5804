"""The interface of a pair source, and a batch of pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class PairBatch:
    """M = 2 P images of a step.

    Attributes:
        tiles: int64 [M], pair p at places 2p and 2p + 1.
        positive: bool [M, M] pairs that should be alike.
        negative: bool [M, M] pairs that should not.
        missing: number of pairs for which no partner was found; their two places hold
            the same tile and have no relation.
    """

    tiles: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    missing: int


class PairSource(Protocol):
    """Draws pairs of tiles and relates the tiles of a batch.

    ``draw`` is a pure function of its arguments, pair by pair: [P] numbers to tiles
    [P, 2]. ``relations`` takes the [P, 2] tiles of those pairs and returns positive and
    negative, bool [2P, 2P]: symmetric, disjoint, False on the diagonal.

    A source may also have ``notes() -> list[str]``, what a user has to know of its
    tiles, and its module may say beside ``build``:

    - ``COMPARES_CLASSES = True``: where tiles have classes, negatives are of another;
    - ``VERIFIABLE = True``: pairs are labelled by their distance in the slide, which
      their appearance may contradict;
    - ``SINGLE = True``: no two images are alike, for a loss that ``REMEMBERS`` tiles.
    """

    def draw(self, seed: int, step: int, pairs: np.ndarray) -> np.ndarray: ...

    def relations(
        self, tiles: np.ndarray, pairs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]: ...

    def check(self, num_pairs: int) -> None:
        """Raise InputError where batches of this size cannot be drawn."""
        ...


def draw_batch(source: PairSource, seed: int, step: int, num_pairs: int) -> PairBatch:
    """Draw the whole batch of a step; every worker draws any part of it the same."""
    pairs = np.arange(num_pairs)
    tiles = source.draw(seed, step, pairs)
    positive, negative = source.relations(tiles, pairs)
    # A pair of the same tile twice lacks a partner, unless it is a positive pair.
    missing = int((tiles[:, 0] == tiles[:, 1]).sum())
    even = np.arange(0, 2 * num_pairs, 2)
    missing -= int((positive[even, even + 1] & (tiles[:, 0] == tiles[:, 1])).sum())
    return PairBatch(tiles.reshape(-1), positive, negative, missing)


def drawn_pairs(wanted: np.ndarray) -> np.ndarray:
    """The relation [2P, 2P] that holds only within the pairs [P] marked True."""
    matrix = np.zeros((2 * len(wanted), 2 * len(wanted)), bool)
    first = 2 * np.flatnonzero(wanted)
    matrix[first, first + 1] = matrix[first + 1, first] = True
    return matrix
