"""Metrics of predictions of single tiles, of which a patient has many."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.tile_metrics import (
    METRICS,
    TileMetrics,
    mean_metrics,
    tile_metrics,
)
from mshisto_ray.statistics.bootstrap import Interval


class TileEstimates:
    """As ``Estimates``, from counts of every patient in place of weights of every row.

    The value: the metric of each repeat's predictions pooled, then the mean over
    repeats; the same draws of patients replicate all models of the same tiles.

    Attributes:
        kind: the target.
        names: of its metrics.
    """

    def __init__(self, predictions: Predictions):
        self._all, self.kind, self.names = predictions, predictions.kind, METRICS

    @cached_property
    def _metrics(self) -> TileMetrics:
        given = self._all
        _, patient = np.unique(given.patient_id.astype(str), return_inverse=True)
        found = []
        for repeat in np.unique(given.repeat):
            rows = given.repeat == repeat
            values, truth = given.probabilities[rows], given.target[rows]
            found.append(tile_metrics(values, truth, patient[rows]))
        return mean_metrics(found)

    @property
    def values(self) -> dict[str, float]:
        """Every metric; NaN where it is not defined."""
        return self._metrics.values

    @property
    def replicates(self) -> dict[str, np.ndarray]:
        """Every metric in each bootstrap replicate, [R]; none of a single patient."""
        return self._metrics.replicates

    def variance(self, metric: str) -> tuple[float, float]:
        """Variance of a metric, and degrees of freedom of that estimate."""
        return self._metrics.variance(metric)

    def interval(self, metric: str) -> Interval:
        """A metric with its 95 % interval over patients."""
        return self._metrics.interval(metric)
