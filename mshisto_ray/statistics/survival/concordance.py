"""Harrell's and Uno's C of weighted patients, for many weightings at once.

A pair of patients is comparable if the one with the earlier time had the event then.
Pairs of equal times are left out, as in published tables, or compared where one of both
had the event: the other is taken to have lived longer (Harrell, Lee, Mark 1996). A pair
is concordant if the patient with the earlier event has the higher risk; equal risks
count one half. Sums over pairs are products of matrices, so that a thousand bootstrap
replicates take little longer than one.
"""

from __future__ import annotations

import numpy as np

from mshisto_ray.statistics.rank_metrics import weighted_ratio
from mshisto_ray.statistics.survival.kaplan_meier import StepCurve, censoring_curve

_CHUNK_BYTES = 1 << 26


def harrell(
    time: np.ndarray,
    event: np.ndarray,
    risk: np.ndarray,
    weights: np.ndarray | None = None,
    equal_times: bool = False,
) -> np.ndarray:
    """Share of comparable pairs that are concordant (Harrell 1982), [R].

    Args:
        time: of the event or of the last observation, [N].
        event: whether it was the event, bool [N].
        risk: higher for those expected to have the event earlier, [N].
        weights: [R, N], none negative; None: one weighting of ones.
        equal_times: whether pairs of equal times are compared, of which one has the
            event.

    Returns:
        A value for each weighting; NaN where it leaves no comparable pair.
    """
    return harrell_and_uno(time, event, risk, weights, equal_times=equal_times)[0]


def uno(
    time: np.ndarray,
    event: np.ndarray,
    risk: np.ndarray,
    weights: np.ndarray | None = None,
    until: float = np.inf,
) -> np.ndarray:
    """C of Uno et al. (2011, equation 6), [R], which does not depend on the follow-up.

    Each pair is weighted by 1 / G(t-)^2, where G is the probability to be under
    observation, estimated from the same patients in each weighting, and t the earlier
    time. Where few patients are left under observation these weights are large and the
    value varies: give ``until``.

    Args:
        time: as in ``harrell``.
        event: likewise.
        risk: likewise.
        weights: likewise.
        until: only events before this time count.
    """
    return harrell_and_uno(time, event, risk, weights, until)[1]


def harrell_and_uno(
    time: np.ndarray,
    event: np.ndarray,
    risk: np.ndarray,
    weights: np.ndarray | None = None,
    until: float | np.ndarray = np.inf,
    equal_times: bool = False,
    observed: StepCurve | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Both, in the time of one; arguments as in ``uno`` and ``harrell``.

    ``until``: of each weighting, [R], or of all; ``observed``: G, of one or R
    weightings, of other patients than these; None: of these.
    """
    event = event.astype(bool)
    weights = np.ones((1, len(time))) if weights is None else weights
    index = np.flatnonzero(event)
    curve = observed or censoring_curve(time, event, weights)
    before = curve.before(time[index])
    plain = weights[:, index]
    censored = plain * weighted_ratio(np.ones(1), before**2, empty=0.0)
    censored = censored * (time[index] < np.reshape(until, (-1, 1)))
    found, possible = np.zeros((2, len(weights))), np.zeros((2, len(weights)))
    # Of whole numbers below 2^24, halves included, float32 is exact.
    others = weights.astype(np.float32)
    step = max(1, _CHUNK_BYTES // (4 * max(1, len(time))))
    for start in range(0, len(index), step):
        part = slice(start, start + step)
        rows = index[part]
        later = time[rows, None] < time
        if equal_times:
            later |= (time[rows, None] == time) & ~event
        comparable = later.astype(np.float32)
        higher = (risk[rows, None] > risk).astype(np.float32)
        higher += np.float32(0.5) * (risk[rows, None] == risk)
        all_pairs, right = others @ comparable.T, others @ (comparable * higher).T
        for kind, cases in enumerate((plain[:, part], censored[:, part])):
            possible[kind] += np.einsum("re,re->r", cases, all_pairs)
            found[kind] += np.einsum("re,re->r", cases, right)
    both = weighted_ratio(found, possible)
    return both[0], both[1]
