"""Time-dependent AUROC: who has had the event by a time, against who has not."""

from __future__ import annotations

import numpy as np

from mshisto_ray.statistics.rank_metrics import rank_metrics, weighted_ratio
from mshisto_ray.statistics.survival.kaplan_meier import censoring_curve


def dynamic_auc(
    time: np.ndarray,
    event: np.ndarray,
    risk: np.ndarray,
    horizons: np.ndarray,
    weights: np.ndarray | None = None,
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

    Returns:
        NaN where a weighting leaves no case or no control.
    """
    weights = np.ones((1, len(time))) if weights is None else weights
    observed = censoring_curve(time, event, weights).before(time)
    of_case = weights * weighted_ratio(np.ones(1), observed, empty=0.0)
    found = []
    for horizon in np.asarray(horizons, float):
        case = event.astype(bool) & (time <= horizon)
        used = np.where(case, of_case, weights * (time > horizon))
        found.append(rank_metrics(risk, case, used)["auroc"])
    return np.stack(found, 1)
