"""Intervals of metrics that hold up to 0 and 1."""

from __future__ import annotations

import numpy as np

from mshisto_ray.learning.estimates import Estimates
from mshisto_ray.learning.metrics import METRICS
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.statistics.score_interval import score_interval

NAME = "score"
METHOD = (
    "95 % score intervals over patients, which have a width at 0 and 1 too: AUROC from "
    "DeLong's variance by patient, the others from that of 1000 patient-bootstrap "
    "replicates"
)


def intervals(predictions: Predictions) -> dict[str, Interval]:
    """Every metric with its 95 % interval over patients.

    See ``Estimates`` for the value and the variance of a metric and
    ``statistics.score_interval`` for the interval. It covers the sampling of patients.
    It holds the trained models fixed, so the variation between training sets is not
    included.
    """
    estimates = Estimates(predictions)
    return {name: interval(estimates, name) for name in METRICS}


def interval(estimates: Estimates, metric: str) -> Interval:
    """One metric with its interval; all NaN where it is not defined."""
    value = estimates.values[metric]
    if np.isnan(value):
        return Interval(value, value, value)
    variance, degrees = estimates.variance(metric)
    low, high = score_interval(
        np.array([value]),
        np.array([variance]),
        np.array([degrees]),
        estimates.theory(metric),
    )
    return Interval(value, float(low[0]), float(high[0]))
