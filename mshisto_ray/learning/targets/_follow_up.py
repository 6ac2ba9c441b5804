"""How long patients are followed up: the times that survival is predicted for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.statistics.survival.kaplan_meier import (
    StepCurve,
    censoring_curve,
    kaplan_meier,
)

RISK = "risk"  # the name of the only output of Cox, before its horizons
_NUM = 10
_LEFT = 0.1


def horizon_names(
    time: np.ndarray, given: Sequence[float] | None, column: str
) -> tuple[str, ...]:
    """Times that survival is predicted for, ascending, as text.

    Those given, or ten times at equal distances up to the one that a tenth of the
    patients is observed beyond, of three digits; none where so many are observed for
    no time at all.

    Raises:
        InputError: a given one that nobody is observed beyond.
    """
    longest = float(time.max(initial=0.0))
    if given is not None:
        late = [f"{h:g}" for h in given if h >= longest]
        if late:
            raise InputError(
                f"target.horizons: nobody is observed beyond {', '.join(late)} in "
                f"{column}, whose largest value is {longest:g}: give earlier times"
            )
        return tuple(f"{h:.12g}" for h in sorted(set(given)))
    last = float(np.quantile(time, 1 - _LEFT, method="lower")) if len(time) else 0.0
    found = [float(f"{last * k / _NUM:.3g}") for k in range(1, _NUM + 1)]
    kept = sorted({h for h in found if 0 < h < longest})
    return tuple(f"{h:.12g}" for h in kept)


@dataclass(frozen=True)
class FollowUp:
    """What metrics of survival need of the patients that a model learned from.

    ``horizons``: ascending times, [H]; ``places``: of the predicted value of each;
    ``survival``: Kaplan-Meier's estimate at each, [H]; ``end``: the longest
    observation; ``observed``: the probability to be under observation, None: that of
    the patients who are measured, as they are of another cohort.
    """

    horizons: np.ndarray
    places: np.ndarray
    survival: np.ndarray
    end: float
    observed: StepCurve | None

    @property
    def state(self) -> dict[str, Any]:
        """As JSON values."""
        steps = self.observed
        return {
            "horizons": self.horizons.tolist(),
            "places": self.places.tolist(),
            "kaplan_meier": self.survival.tolist(),
            "longest": self.end if np.isfinite(self.end) else None,
            "observed": steps and [steps.times.tolist(), steps.values[0].tolist()],
        }


def follow_up(
    truth: np.ndarray, horizons: Sequence[float], places: Sequence[int]
) -> FollowUp:
    """Of the training bags, whose times and events are ``truth`` [N, 2]."""
    times, (time, event) = np.array(horizons, float), truth.T
    curve = censoring_curve(time, event > 0)
    # Steps of 0 say nothing.
    steps = np.flatnonzero(np.diff(curve.values[0], prepend=1.0))
    observed = StepCurve(curve.times[steps], curve.values[:, steps])
    survival = kaplan_meier(time, event > 0).at(times)[0]
    longest = float(time.max())
    return FollowUp(times, np.array(places, int), survival, longest, observed)


def read_follow_up(state: Mapping[str, Any]) -> FollowUp | None:
    """The inverse of ``FollowUp.state``; None of a model of an earlier version."""
    if "horizons" not in state:
        return None
    longest, curve = state["longest"], state["observed"]
    if curve is not None:
        curve = StepCurve(np.array(curve[0], float), np.array(curve[1], float)[None])
    return FollowUp(
        np.array(state["horizons"], float),
        np.array(state["places"], int),
        np.array(state["kaplan_meier"], float),
        np.inf if longest is None else float(longest),
        curve,
    )


def of_another_cohort(known: Sequence[FollowUp]) -> FollowUp:
    """For patients of another cohort, who stay under observation in their own way.

    ``known``: of each model that predicts them; the mean of their curves is compared.
    """
    survival = np.mean([one.survival for one in known], axis=0)
    return replace(known[0], survival=survival, end=np.inf, observed=None)
