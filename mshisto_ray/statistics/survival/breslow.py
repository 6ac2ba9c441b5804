"""The baseline hazard that turns the risks of a Cox model into probabilities."""

from __future__ import annotations

import numpy as np


def cumulative_baseline(
    time: np.ndarray, event: np.ndarray, log_hazard: np.ndarray, horizons: np.ndarray
) -> np.ndarray:
    """Cumulative hazard of a log hazard of 0 at each horizon, [H] (Breslow 1972).

    Of each event up to the horizon, one over the summed hazards of those at risk at
    its time. A patient survives t with the probability exp(-H(t) exp(log hazard)).

    Args:
        time: of the event or of the last observation, [N].
        event: whether it was the event, bool [N].
        log_hazard: of a model of these patients, [N]; of a size that exp can take.
        horizons: times, [H].
    """
    times = np.unique(time[event.astype(bool)])
    at_risk = (time[None] >= times[:, None]) @ np.exp(log_hazard)
    died = ((time[None] == times[:, None]) & event.astype(bool)).sum(1)
    steps = np.concatenate([[0.0], np.cumsum(died / at_risk)])
    return steps[np.searchsorted(times, horizons, side="right")]
