"""What training anew on redrawn patients adds to the interval of a metric."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mshisto_ray.statistics.bootstrap import Interval


@dataclass(frozen=True)
class TrainingVariance:
    """Variance of a metric by the patients that are trained on.

    ``mean``: of the metric over refits; ``training``: variance between them beyond that
    of the tested patients; ``held``: that of the tested patients were all tested.
    """

    mean: float
    training: float
    held: float

    @property
    def factor(self) -> float:
        """How many times wider an interval is that includes training; at least 1."""
        return float(np.sqrt(1 + self.training / self.held)) if self.held > 0 else 1.0


def training_variance(
    values: np.ndarray, held: np.ndarray, tested: np.ndarray
) -> TrainingVariance:
    """Split the variance of a metric over refits into that of training and of testing.

    Refit b draws all patients with replacement (Efron 1983), trains on those drawn and
    tests on the share s_b left out. Its value varies by training and by which patients
    were left out: with the models held, the value of m of n patients has the variance
    v_b over other patients, of which a share 1 - s_b is seen between parts of the same
    n (finite population, Cochran 1977, section 2.6) and s_b is not. So

        training = max(0, var_b(value) - mean((1 - s_b) v_b)),  held = mean(s_b v_b),

    the latter being the variance of a test on all n, as v falls with 1 / m.

    Args:
        values: of the metric in each refit, [B]; NaN: not defined, left out.
        held: variance of each with its models held, [B].
        tested: share of the patients that each tests, [B].
    """
    known = np.isfinite(values) & np.isfinite(held)
    values, held, tested = values[known], held[known], tested[known]
    if len(values) < 2:
        return TrainingVariance(float("nan"), 0.0, float("nan"))
    between = values.var(ddof=1) - ((1 - tested) * held).mean()
    mean_held = float((tested * held).mean())
    return TrainingVariance(float(values.mean()), max(0.0, float(between)), mean_held)


def widened(interval: Interval, factor: float, bounded: bool) -> Interval:
    """An interval whose ends lie ``factor`` times as far from its value.

    ``bounded``: of a metric from 0 to 1.
    """
    low = interval.value - factor * (interval.value - interval.low)
    high = interval.value + factor * (interval.high - interval.value)
    if bounded:
        low, high = max(0.0, low), min(1.0, high)
    return Interval(interval.value, low, high)
