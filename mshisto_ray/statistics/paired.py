"""Difference of two values on the same patients: interval, p, and many of them."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri, stdtr  # scipy.stats takes a second to import

from mshisto_ray.statistics.bootstrap import Interval

_QUANTILE = float(ndtri(0.975))


def difference_interval(
    first: Interval, second: Interval, correlation: float
) -> Interval:
    """First minus second, with a 95 % interval made of those of both.

    Each end lies as far from the difference as the distances of the ends that matter,
    squared and added, less what the correlation of both saves (Newcombe 1998; Zou
    2007). So it has a width where both values are 1, as the intervals of both do.

    Args:
        first: a value with its interval.
        second: likewise, on the same patients.
        correlation: of the two values over samples of patients, -1 to 1.
    """
    value = first.value - second.value
    below = _distance(first.value - first.low, second.high - second.value, correlation)
    above = _distance(first.high - first.value, second.value - second.low, correlation)
    return Interval(value, value - below, value + above)


def _distance(one: float, two: float, correlation: float) -> float:
    squared = one**2 + two**2 - 2 * correlation * one * two
    return float(np.sqrt(max(squared, 0.0)))


def p_value(difference: Interval) -> float:
    """Two-sided p of no difference, below .05 where the interval excludes 0.

    The half of the interval that reaches for 0 is taken for 1.96 standard errors.
    """
    if difference.value == 0:
        return 1.0
    end = difference.low if difference.value > 0 else difference.high
    reach = abs(difference.value - end)
    if not np.isfinite(reach):
        return float("nan")
    return float(2 * ndtr(-_QUANTILE * abs(difference.value) / max(reach, 1e-300)))


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values [M] adjusted for M comparisons (Holm 1979); NaN stays, and counts."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    result = np.empty(len(p_values))
    result[order] = adjusted
    return result


def corrected_resampled_t(differences: np.ndarray, test_share: float) -> float:
    """Two-sided p of no difference over the folds of repeated cross-validations.

    Folds share their training patients, so their differences depend on each other and
    a plain t test finds too much. Nadeau and Bengio (2003) add the test rows per
    training row to 1 / J in the variance of the mean; Bouckaert and Frank (2004)
    confirm it for repeated folds. Unlike an interval over patients, this p includes
    the variation between trained models.

    Args:
        differences: of a metric in each of J folds, [J]; NaN where it is not defined.
        test_share: test rows divided by training rows; 1 / (k - 1) for k folds.

    Returns:
        p; NaN for fewer than two defined folds, 1 where all are 0.
    """
    known = differences[np.isfinite(differences)]
    if len(known) < 2:
        return float("nan")
    if not known.any():
        return 1.0
    error = np.sqrt((1 / len(known) + test_share) * known.var(ddof=1))
    if error == 0:
        return 0.0
    return float(2 * stdtr(len(known) - 1, -abs(known.mean()) / error))
