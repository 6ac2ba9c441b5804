"""Cluster bootstrap: draws of clusters, and intervals of values computed from them.

A cluster is a unit of independent evidence: a patient, or a block of one slide.
A replicate draws as many clusters as there are, with replacement; a drawn cluster
contributes all its rows, as often as it was drawn. Values computed with the same draws
may be subtracted from each other: that is the paired bootstrap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mshisto_ray.statistics.rank_metrics import weighted_ratio

REPLICATES = 1000
SEED = 0
_LEVEL = (2.5, 97.5)
_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


def draw_counts(
    num_clusters: int, replicates: int, generator: np.random.Generator
) -> np.ndarray:
    """How often each cluster was drawn, int [replicates, num_clusters]."""
    drawn = generator.integers(0, num_clusters, (replicates, num_clusters))
    drawn += num_clusters * np.arange(replicates)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=replicates * num_clusters)
    return counts.reshape(replicates, num_clusters)


def percentile_interval(value: float, replicates: np.ndarray) -> Interval:
    """Interval of a value: 2.5 and 97.5 percentiles of its finite replicates [R].

    The percentiles are NaN if the value, or every replicate, is not finite.
    """
    usable = replicates[np.isfinite(replicates)]
    if not len(usable) or not np.isfinite(value):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(usable, _LEVEL)
    return Interval(value, float(low), float(high))


class ClusterDraws:
    """Replicates for rows [N] that belong to clusters, drawn with a fixed seed.

    Attributes:
        num_clusters: distinct clusters.
    """

    def __init__(self, clusters: np.ndarray, replicates: int = REPLICATES):
        names, self._code = np.unique(clusters, return_inverse=True)
        self.num_clusters = len(names)
        generator = np.random.default_rng(SEED)
        self._counts = draw_counts(self.num_clusters, replicates, generator)
        if self.num_clusters == 1:  # every draw is the same: there is no interval
            self._counts = self._counts[:0]

    def means(self, values: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
        """Mean of values [N, M] in each replicate, [R, M]; NaN if none was drawn.

        Args:
            values: M scores per row.
            where: rows that count, bool [N]; None: all.
        """
        counts = np.ones(len(values)) if where is None else where.astype(float)
        columns = np.column_stack([values * counts[:, None], counts])
        sums = np.zeros((self.num_clusters, columns.shape[1]))
        np.add.at(sums, self._code, columns)
        drawn = self._counts @ sums
        return weighted_ratio(drawn[:, :-1], drawn[:, -1:])

    def weights(self) -> Iterator[np.ndarray]:
        """How often each row was drawn, [r, N], a few replicates at a time."""
        step = max(1, _CHUNK_BYTES // (8 * len(self._code)))
        for start in range(0, len(self._counts), step):
            yield self._counts[start : start + step, self._code].astype(float)
