"""Time-dependent AUROC: who has had the event by a time, against who has not."""

from __future__ import annotations

import numpy as np

from mshisto_ray.statistics.rank_metrics import rank_metrics, weighted_ratio
from mshisto_ray.statistics.survival.kaplan_meier import (
    StepCurve,
    censoring_curve,
    kaplan_meier,
)


def dynamic_auc(
    time: np.ndarray,
    event: np.ndarray,
    risk: np.ndarray,
    horizons: np.ndarray,
    weights: np.ndarray | None = None,
    observed: StepCurve | None = None,
) -> np.ndarray:
    """Cumulative/dynamic AUROC at each horizon, [R, H].

    Cases have had the event by the horizon, weighted by 1 / G(t-), where G is the
    probability to be under observation and t the time of the event (Uno et al. 2007;
    Hung and Chiang 2010); controls are under observation after it. Patients who left
    before it are neither: the weights make up for them. Equal risks count one half.

    Args:
        time: of the event or of the last observation, [N].
        event: whether it was the event, bool [N].
        risk: higher for those expected to have the event earlier, [N].
        horizons: times, [H].
        weights: [R, N], none negative; None: one weighting of ones.
        observed: G, of one or R weightings, of other patients than these; None: of
            these.

    Returns:
        NaN where a weighting leaves no case or no control.
    """
    weights = np.ones((1, len(time))) if weights is None else weights
    before = (observed or censoring_curve(time, event, weights)).before(time)
    of_case = weights * weighted_ratio(np.ones(1), before, empty=0.0)
    found = []
    for horizon in np.asarray(horizons, float):
        case = event.astype(bool) & (time <= horizon)
        used = np.where(case, of_case, weights * (time > horizon))
        found.append(rank_metrics(risk, case, used)["auroc"])
    return np.stack(found, 1)


def mean_auc(
    aucs: np.ndarray,
    time: np.ndarray,
    event: np.ndarray,
    horizons: np.ndarray,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Mean of AUROCs over the horizons, [R], each weighted by the events up to it.

    The weight of a horizon is by how much Kaplan-Meier's curve falls from the horizon
    before to it (Lambert and Chevret 2016). One at which the AUROC is not defined is
    left out, and what falls up to it.

    Args:
        aucs: of ``dynamic_auc``, [R, H].
        time: as in ``dynamic_auc``.
        event: likewise.
        horizons: ascending times, [H].
        weights: likewise.

    Returns:
        NaN where none is defined.
    """
    survival = kaplan_meier(time, event, weights).at(np.asarray(horizons, float))
    falls = -np.diff(survival, axis=1, prepend=1.0)
    falls = np.where(np.isfinite(aucs), falls, 0.0)
    return weighted_ratio((np.nan_to_num(aucs) * falls).sum(1), falls.sum(1))
