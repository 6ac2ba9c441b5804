"""Harrell's concordance of survival predictions, for many weightings at once."""

from __future__ import annotations

import numpy as np

from mshisto_ray.statistics.rank_metrics import weighted_ratio

# Comparisons of pairs that are held at once.
_CHUNK_PAIRS = 1 << 22


def concordance(
    risk: np.ndarray,
    time: np.ndarray,
    event: np.ndarray,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Harrell's C for each of R weightings of N rows, [R].

    A pair can be compared if it is known who has the event first: at an earlier time
    with an event, or at the same time where only one of the two has it (who is
    censored then lives longer). Of these pairs C is the share in which the first has
    the higher risk; equal risks count one half. NaN where no pair can be compared.
    ``survival.concordance`` compares no pair of equal times, as published tables do.

    Source: Harrell et al. 1982; ties in time as in Harrell, Lee, Mark 1996.

    Args:
        risk: higher where the event is expected sooner, [N].
        time: of the event or of censoring, [N].
        event: bool [N]; False: censored.
        weights: how often each row counts, [R, N]; None: one weighting of ones.
    """
    if weights is None:
        weights = np.ones((1, len(time)))
    event = event.astype(bool)
    right = np.zeros(len(weights))
    comparable = np.zeros(len(weights))
    firsts = np.flatnonzero(event)
    step = max(1, _CHUNK_PAIRS // max(len(time), 1))
    for start in range(0, len(firsts), step):
        rows = firsts[start : start + step]
        later = time > time[rows][:, None]
        later |= (time == time[rows][:, None]) & ~event
        own = risk[rows][:, None]
        score = later * ((own > risk) + 0.5 * (own == risk))
        own_weights = weights[:, rows]
        right += ((weights @ score.T) * own_weights).sum(1)
        comparable += ((weights @ later.T.astype(float)) * own_weights).sum(1)
    return weighted_ratio(right, comparable)
