"""Probabilities of a slide's tiles as an array on the slide's grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

_TRUNCATE = 4.0  # of the Gaussian, in standard deviations


@dataclass(frozen=True)
class ProbabilityMap:
    """Probability of one class over a slide at one scale.

    ``values``: float64 [rows, cols] from the grid's corner (0, 0), NaN where there is
    no tile; ``span``: side of a tile in level-0 pixels, so that tile (row, col) covers
    x from ``col * span`` and y from ``row * span``.
    """

    values: np.ndarray
    span: float

    @property
    def known(self) -> np.ndarray:
        """Where there is a tile, bool [rows, cols]."""
        return np.isfinite(self.values)

    def smoothed(self, sigma: float) -> ProbabilityMap:
        """Gaussian mean of the tiles around, tile by tile.

        What is not known has no weight: the values are divided by the Gaussian's weight
        on tiles, so edges of tissue do not fade. Known tiles stay known, others not.

        Args:
            sigma: standard deviation in tiles; 0: as it is.
        """
        if not sigma:
            return self
        known = self.known
        filled = np.where(known, self.values, 0.0)
        total, weight = (
            ndimage.gaussian_filter(part, sigma, mode="constant", truncate=_TRUNCATE)
            for part in (filled, known.astype(float))
        )
        mean = np.full(known.shape, np.nan)
        mean[known] = total[known] / weight[known]
        return ProbabilityMap(mean, self.span)

    def at(self, row: np.ndarray, col: np.ndarray) -> np.ndarray:
        """Values [N] of tiles."""
        return self.values[row, col]


def make_map(
    row: np.ndarray, col: np.ndarray, probability: np.ndarray, span: float
) -> ProbabilityMap:
    """The map of N tiles at (row, col), each once; at least one."""
    values = np.full((int(row.max()) + 1, int(col.max()) + 1), np.nan)
    values[row, col] = probability
    return ProbabilityMap(values, span)
