"""How well numbers or ordered classes agree, for many weightings of the rows at once.

As in ``learning.metrics``, a bootstrap replicate is a weighting of the same rows.
"""

from __future__ import annotations

import numpy as np

from mshisto_ray.statistics.rank_metrics import weighted_ratio


def regression_metrics(
    predicted: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """``r2, mae, rmse, pearson, spearman`` for each of R weightings.

    R2 is 1 - squared error / squared deviation from the mean of the truth; Spearman's
    rho is Pearson's r of ranks, ties sharing the mean of theirs. NaN where the truth
    (of the correlations: either) does not vary.

    Args:
        predicted: [N].
        truth: [N].
        weights: [R, N], none negative; None: one weighting of ones.
    """
    if weights is None:
        weights = np.ones((1, len(truth)))
    total = weights.sum(1)
    error = predicted - truth
    squared = weighted_ratio(weights @ error**2, total)
    spread = _covariance(truth[None], truth[None], weights)
    spread = np.where(spread > 1e-12 * max(float(truth.var()), 1e-300), spread, 0)
    ranks = weighted_ranks(predicted, weights), weighted_ranks(truth, weights)
    return {
        "r2": np.where(spread > 0, 1 - weighted_ratio(squared, spread), np.nan),
        "mae": weighted_ratio(weights @ np.abs(error), total),
        "rmse": np.sqrt(squared),
        "pearson": _correlation(predicted[None], truth[None], weights),
        "spearman": _correlation(*ranks, weights),
    }


def weighted_ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mid-ranks [R, N] of values [N] where each counts as often as it weighs.

    Less a half: a row with weight w below which W lies has the rank W + w / 2.
    """
    _, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    sums = np.add.reduceat(weights[:, order], starts, axis=1)
    return (sums.cumsum(1) - sums / 2)[:, place]


def _covariance(one: np.ndarray, two: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Of [R or 1, N] and [R or 1, N] under weights [R, N], divided by their sum."""
    total = weights.sum(1)
    first, second = (
        x - weighted_ratio((weights * x).sum(1), total)[:, None] for x in (one, two)
    )
    return weighted_ratio((weights * first * second).sum(1), total)


def _correlation(one: np.ndarray, two: np.ndarray, weights: np.ndarray) -> np.ndarray:
    product = _covariance(one, one, weights) * _covariance(two, two, weights)
    product = np.where(product > 1e-24 * np.nanmax(product, initial=0), product, 0)
    return weighted_ratio(_covariance(one, two, weights), np.sqrt(product))


def quadratic_kappa(
    predicted: np.ndarray,
    truth: np.ndarray,
    num: int,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Cohen's kappa with quadratic weights, for each of R weightings, [R].

    NaN where all rows are of one class in both.

    Source: Cohen 1968, weighted kappa, with disagreement (i - j)^2.

    Args:
        predicted: classes 0 to ``num`` - 1, [N].
        truth: likewise.
        num: C, of ordered classes.
        weights: [R, N]; None: one weighting of ones.
    """
    if weights is None:
        weights = np.ones((1, len(truth)))
    steps = np.arange(num)
    observed = weights @ ((predicted - truth) ** 2).astype(float)
    shares = [weights @ (codes[:, None] == steps) for codes in (predicted, truth)]
    apart = (steps[:, None] - steps) ** 2
    chance = np.einsum("ri,rj,ij->r", *shares, apart)
    agreed = weighted_ratio(observed * weights.sum(1), chance)
    return 1 - agreed
