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

    Two values that vary apart differ least where the first is at its low end and the
    second at its high one: the distances of these ends, squared and added (Newcombe
    1998). Two that vary together are at the same ends at once, and their difference
    moves by what those distances differ. The correlation weighs both cases. Where
    intervals are symmetric this is the interval of Zou (2007), who takes opposite ends
    in both cases; near a bound such as an AUROC of 1, where the low end is far and the
    high one near, that leaves models that agree a difference as wide as each interval.

    It has a width where both values are 1, as the intervals of both do.

    Args:
        first: a value with its interval.
        second: likewise, on the same patients.
        correlation: of the two values over samples of patients, -1 to 1.
    """
    value = first.value - second.value
    down = first.value - first.low, second.value - second.low
    up = first.high - first.value, second.high - second.value
    shrinks = max(down[0] - down[1], up[1] - up[0], 0.0)
    grows = max(up[0] - up[1], down[1] - down[0], 0.0)
    below = _distance(down[0], up[1], shrinks, correlation)
    above = _distance(up[0], down[1], grows, correlation)
    return Interval(value, value - below, value + above)


def patient_correlation(
    first: float, second: float, difference: float, step: float
) -> float:
    """Correlation of two values over samples of patients, from their variances.

    Patients at hand on whom two models agree do not show that they agree on all, so the
    variance of the difference is taken for that with one more disagreement. For shares
    of patients this is the continuity correction of Newcombe (1998, paired data, method
    10), n / 2 from the product of the numbers of agreements; as there it lessens a
    correlation to 0 at most.

    Args:
        first: variance of one value.
        second: of the other.
        difference: of the first minus the second.
        step: by how much one disagreement changes a value (``Theory.step``).

    Returns:
        -1 to 1; 0 where it is not known, since a value does not vary.
    """
    shared = (first + second - difference) / 2
    if not np.isfinite(shared) or not first * second > 0:
        return 0.0
    if shared > 0:
        shared = max(shared - step**2 / 2, 0.0)
    return float(np.clip(shared / np.sqrt(first * second), -1, 1))


def _distance(one: float, two: float, together: float, correlation: float) -> float:
    """How far a difference reaches, by opposite ends or by what moves together."""
    if correlation < 0:
        squared = one**2 + two**2 - 2 * correlation * one * two
    else:
        apart = one**2 + two**2
        squared = (1 - correlation) * apart + correlation * together**2
    return float(np.sqrt(squared))


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
