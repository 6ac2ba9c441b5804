"""Peaks of a probability map: points, by non-maximum suppression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from mshisto_ray.maps.probability_map import ProbabilityMap

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Peaks:
    """N peaks, the highest first.

    ``x, y``: centres of their tiles in level-0 pixels; ``scores``: probabilities.
    """

    x: np.ndarray
    y: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def least(self, threshold: float) -> Peaks:
        """Those of at least this score."""
        kept = self.scores >= threshold
        return Peaks(self.x[kept], self.y[kept], self.scores[kept])


def find_peaks(found: ProbabilityMap, distance: float) -> Peaks:
    """Peaks no two of which are closer than ``distance``.

    The most probable tile is a peak and suppresses the tiles whose centres are nearer
    than ``distance``; then the most probable of those left, and so on. Of equal ones
    the first by row and column wins. Those of at least some score are what the same
    would find among tiles of at least that score. Tiles of probability 0 are none.

    Source: greedy non-maximum suppression, as of the tumour probability maps in
    CAMELYON16 (Ehteshami Bejnordi et al. 2017).

    Args:
        found: the map, smoothed where that is wanted.
        distance: level-0 pixels.
    """
    rows, cols = np.nonzero(np.nan_to_num(found.values) > 0)
    scores = found.values[rows, cols]
    order = np.argsort(-scores, kind="stable")
    centre = np.stack([cols, rows], 1)[order] + 0.5
    tree = KDTree(centre)
    left = np.ones(len(order), bool)
    kept = []
    # Nearer than, so that what lies exactly at the distance stays.
    radius = distance / found.span * (1 - _ROUNDING)
    for place in range(len(order)):
        if left[place]:
            kept.append(place)
            left[tree.query_ball_point(centre[place], radius)] = False
    place = np.array(kept, np.int64)
    x, y = (centre[place] * found.span).T
    return Peaks(x, y, scores[order][place])
