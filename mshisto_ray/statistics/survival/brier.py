"""Brier score of predicted survival probabilities, at times and over them."""

from __future__ import annotations

import numpy as np

from mshisto_ray.statistics.rank_metrics import weighted_ratio
from mshisto_ray.statistics.survival.kaplan_meier import StepCurve, censoring_curve


def brier(
    time: np.ndarray,
    event: np.ndarray,
    survival: np.ndarray,
    horizons: np.ndarray,
    weights: np.ndarray | None = None,
    observed: StepCurve | None = None,
) -> np.ndarray:
    """Mean squared error of the survival predicted for each horizon, [R, H].

    Who left before the horizon counts nothing; in their place those with the event at
    t are weighted by 1 / G(t-), and those under observation after the horizon by
    1 / G(horizon), with G the probability to be under observation (Graf et al. 1999).
    A constant prediction of 1/2 scores .25.

    Args:
        time: of the event or of the last observation, [N].
        event: whether it was the event, bool [N].
        survival: predicted probability to have no event up to each horizon, [N, H].
        horizons: times, [H].
        weights: [R, N], none negative; None: one weighting of ones.
        observed: G, of one or R weightings, of other patients than these; None: of
            these.

    Returns:
        NaN where nobody is left under observation at the horizon.
    """
    weights = np.ones((1, len(time))) if weights is None else weights
    horizons = np.asarray(horizons, float)
    curve = observed or censoring_curve(time, event, weights)
    before, after = curve.before(time), curve.at(horizons)
    one, total = np.ones(1), weights.sum(1)
    found = []
    for index, horizon in enumerate(horizons):
        had = event.astype(bool) & (time <= horizon)
        still = weights * (time > horizon)
        lost = weights * had * weighted_ratio(one, before, empty=0.0)
        kept = still * weighted_ratio(one, after[:, index], empty=0.0)[:, None]
        errors = lost @ survival[:, index] ** 2 + kept @ (1 - survival[:, index]) ** 2
        known = still.sum(1) > 0
        found.append(np.where(known, weighted_ratio(errors, total), np.nan))
    return np.stack(found, 1)


def integrated_brier(scores: np.ndarray, horizons: np.ndarray) -> np.ndarray:
    """Mean of Brier scores over the time that the horizons span, [R].

    Where a weighting leaves nobody at the last of them, up to the one before; of one
    horizon the score itself; NaN without any.

    Args:
        scores: of ``brier``, [R, H].
        horizons: ascending times, [H].
    """
    known = np.isfinite(scores)
    values = np.where(known, scores, 0.0)
    widths = np.diff(horizons) * known[:, 1:]
    area = (widths * (values[:, 1:] + values[:, :-1]) / 2).sum(1)
    alone = np.where(known[:, 0], values[:, 0], np.nan)
    span = widths.sum(1)
    return np.where(span > 0, weighted_ratio(area, span), alone)
