"""Intervals of metrics that hold up to 0 and 1."""

from __future__ import annotations

import numpy as np

from mshisto_ray.learning.estimates import Estimates
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.tile_estimates import TileEstimates
from mshisto_ray.statistics.bootstrap import Interval, percentile_interval
from mshisto_ray.statistics.score_interval import score_interval

# How bounds of today are made, by the name that files give it.
CURRENT = ("score", "bootstrap")


def intervals(predictions: Predictions) -> dict[str, Interval]:
    """Every metric with its 95 % interval over patients.

    See ``Estimates`` for the value and the variance of a metric. The interval is that
    of ``statistics.score_interval`` for classes, of percentiles of the replicates for
    other targets. It covers the sampling of patients.
    It holds the trained models fixed, so the variation between training sets is not
    included.
    """
    estimates = estimate(predictions)
    return {name: interval(estimates, name) for name in estimates.names}


def estimate(predictions: Predictions) -> Estimates | TileEstimates:
    """The estimates that suit the target."""
    counted = predictions.kind.counted
    return TileEstimates(predictions) if counted else Estimates(predictions)


def interval(estimates: Estimates | TileEstimates, metric: str) -> Interval:
    """One metric with its interval; all NaN where it is not defined."""
    if isinstance(estimates, TileEstimates):
        return estimates.interval(metric)
    value = estimates.values[metric]
    if np.isnan(value):
        return Interval(value, value, value)
    if not estimates.kind.of_classes:
        return percentile_interval(value, estimates.replicates[metric])
    variance, degrees = estimates.variance(metric)
    low, high = score_interval(
        np.array([value]),
        np.array([variance]),
        np.array([degrees]),
        estimates.theory(metric),
    )
    return Interval(value, float(low[0]), float(high[0]))
