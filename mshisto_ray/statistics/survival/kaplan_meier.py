"""Kaplan and Meier's curve of survival, and that of staying under observation.

Every function takes weights of the patients, a row for each of R weightings: those of
a bootstrap replicate are how often a patient was drawn. Weights of one give the plain
estimate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri  # scipy.stats takes a second to import

from mshisto_ray.statistics.rank_metrics import weighted_ratio

_QUANTILE = float(ndtri(0.975))


@dataclass(frozen=True)
class StepCurve:
    """R curves that begin at 1 and step at ``times``.

    ``times``: distinct, ascending, [T]; ``values``: from each time on, [R, T].
    """

    times: np.ndarray
    values: np.ndarray

    def at(self, when: np.ndarray) -> np.ndarray:
        """Values at times [M], the step of that very time included, [R, M]."""
        return self._look_up(np.searchsorted(self.times, when, side="right"))

    def before(self, when: np.ndarray) -> np.ndarray:
        """Values just before times [M], [R, M]."""
        return self._look_up(np.searchsorted(self.times, when, side="left"))

    def _look_up(self, place: np.ndarray) -> np.ndarray:
        start = np.ones((len(self.values), 1))
        return np.hstack([start, self.values])[:, place]


def kaplan_meier(
    time: np.ndarray, event: np.ndarray, weights: np.ndarray | None = None
) -> StepCurve:
    """Probability to live longer than each observed time (Kaplan and Meier 1958).

    Args:
        time: of the event or of the last observation, [N].
        event: whether it was the event, bool [N].
        weights: [R, N], none negative; None: one weighting of ones.
    """
    counts = _count(time, event, weights)
    return _product(counts.times, counts.events, counts.at_risk)


def censoring_curve(
    time: np.ndarray, event: np.ndarray, weights: np.ndarray | None = None
) -> StepCurve:
    """Probability to be under observation after each time, had nobody the event.

    Of equal times events come first: who has the event is then no longer at risk of
    leaving. Arguments as in ``kaplan_meier``.
    """
    counts = _count(time, event, weights)
    left = counts.at_risk - counts.events
    return _product(counts.times, counts.censored, left)


def log_log_band(
    time: np.ndarray, event: np.ndarray
) -> tuple[StepCurve, np.ndarray, np.ndarray]:
    """The curve and its pointwise 95 % interval on the log(-log) scale, each [T].

    With Greenwood's variance (Kalbfleisch and Prentice 2002, equation 1.13). NaN where
    the curve is 0; 1 and 1 before the first event.
    """
    counts = _count(time, event, None)
    curve = _product(counts.times, counts.events, counts.at_risk)
    survival = curve.values[0]
    events, at_risk = counts.events[0], counts.at_risk[0]
    terms = weighted_ratio(events, at_risk * (at_risk - events), empty=np.nan)
    inner = (survival > 0) & (survival < 1)
    log = np.log(np.where(inner, survival, 0.5))
    reach = _QUANTILE * np.sqrt(np.cumsum(terms)) / -log
    outside = np.where(survival == 1, 1.0, np.nan)
    low = np.where(inner, np.exp(log * np.exp(reach)), outside)
    high = np.where(inner, np.exp(log * np.exp(-reach)), outside)
    return curve, low, high


@dataclass(frozen=True)
class _Counts:
    """Weight of events, of censored and of patients at risk at each time, [R, T]."""

    times: np.ndarray
    events: np.ndarray
    censored: np.ndarray
    at_risk: np.ndarray


def _count(time: np.ndarray, event: np.ndarray, weights: np.ndarray | None) -> _Counts:
    if weights is None:
        weights = np.ones((1, len(time)))
    order = np.argsort(time, kind="stable")
    times, starts = np.unique(time[order], return_index=True)
    event, weights = event[order].astype(bool), weights[:, order]
    died = np.add.reduceat(weights * event, starts, axis=1)
    left = np.add.reduceat(weights * ~event, starts, axis=1)
    at_risk = np.cumsum((died + left)[:, ::-1], axis=1)[:, ::-1]
    return _Counts(times, died, left, at_risk)


def _product(times: np.ndarray, ended: np.ndarray, at_risk: np.ndarray) -> StepCurve:
    return StepCurve(
        times, np.cumprod(1 - weighted_ratio(ended, at_risk, empty=0.0), axis=1)
    )
