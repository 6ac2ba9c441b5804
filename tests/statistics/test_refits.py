"""The variance by training against one that is known."""

import numpy as np
import pytest

from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.statistics.refits import training_variance, widened


@pytest.mark.parametrize("spread", [0.0, 0.03, 0.06])
def test_a_known_spread_of_training_is_found(spread):
    """Losses of n patients; a refit adds a model's own effect to a mean of a part."""
    rng, n, found = np.random.default_rng(0), 150, []
    for _ in range(60):
        losses = rng.normal(0.3, 0.4, n)
        values, held, tested = [], [], []
        for _ in range(60):
            left = np.setdiff1d(np.arange(n), rng.integers(0, n, n))
            values.append(losses[left].mean() + rng.normal(0, spread))
            held.append(losses[left].var(ddof=1) / len(left))
            tested.append(len(left) / n)
        found.append(training_variance(*map(np.array, (values, held, tested))))
    held = np.mean([f.held for f in found])
    assert held == pytest.approx(0.4**2 / n, rel=0.05)
    training = np.mean([f.training for f in found])
    assert training == pytest.approx(spread**2, abs=1.5e-4)
    factors = np.sqrt(1 + np.array([f.training for f in found]) / held)
    expected = np.sqrt(1 + spread**2 / (0.4**2 / n))
    assert np.mean(factors) == pytest.approx(expected, rel=0.1)


def test_what_is_not_defined_is_left_out():
    values = np.array([0.8, np.nan, 0.9])
    found = training_variance(values, np.full(3, 1e-4), np.full(3, 0.4))
    assert found.mean == pytest.approx(0.85)
    assert found.training == pytest.approx(0.005 - 0.6e-4)
    one = training_variance(values[:2], np.full(2, 1e-4), np.full(2, 0.4))
    assert np.isnan(one.mean) and one.factor == 1


def test_an_interval_is_widened_within_bounds():
    wide = widened(Interval(0.9, 0.8, 0.96), 2.0, True)
    assert (wide.value, wide.high) == (0.9, 1.0)
    assert wide.low == pytest.approx(0.7)
    assert widened(Interval(0.9, 0.8, 0.96), 2.0, False).high == pytest.approx(1.02)
