"""The log-rank test: do groups of patients live equally long?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc  # scipy.stats takes a second to import

from mshisto_ray.statistics.rank_metrics import weighted_ratio


@dataclass(frozen=True)
class LogRank:
    """The statistic, its degrees of freedom (groups less one), and p."""

    statistic: float
    degrees: int
    p: float


def log_rank(time: np.ndarray, event: np.ndarray, group: np.ndarray) -> LogRank:
    """Compare the survival of groups (Mantel 1966; Peto and Peto 1972).

    Groups that were made from the same patients' outcomes, such as risk groups at the
    best cut, give a p that is too small.

    Args:
        time: of the event or of the last observation, [N].
        event: whether it was the event, bool [N].
        group: label of each patient's group, [N].

    Returns:
        NaN with no degree of freedom where there is one group only, or no event.
    """
    names, code = np.unique(group, return_inverse=True)
    event = event.astype(bool)
    times = np.unique(time[event])
    if len(names) < 2 or not len(times):
        return LogRank(float("nan"), 0, float("nan"))
    member = code[:, None] == np.arange(len(names))
    at_risk = (time[None] >= times[:, None]).astype(float) @ member
    died = ((time[None] == times[:, None]) & event).astype(float) @ member
    all_risk, all_died = at_risk.sum(1), died.sum(1)
    share = at_risk / all_risk[:, None]
    excess = (died - all_died[:, None] * share).sum(0)
    # The hypergeometric variance at each time; 0 where one patient is left.
    scale = all_died * weighted_ratio(all_risk - all_died, all_risk - 1, empty=0.0)
    covariance = np.diag(scale @ share) - (share * scale[:, None]).T @ share
    # One group is given by the others; a group never at risk has no variance.
    inverse = np.linalg.pinv(covariance[:-1, :-1])
    statistic = float(excess[:-1] @ inverse @ excess[:-1])
    degrees = len(names) - 1
    return LogRank(statistic, degrees, float(chdtrc(degrees, statistic)))
