"""Learning curves: known power laws, a search of scipy, and the expected gain."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from mshisto_ray.statistics.learning_curve import expected_gain, power_law

SIZES = np.array([20, 40, 80, 160])


def law(n, a, b, c):
    return a - b * np.asarray(n, float) ** -c


@pytest.mark.parametrize("power", [0.3, 0.5, 1.0])
def test_a_power_law_is_found_and_continued(power):
    values = law(SIZES, 0.9, 1.5, power)[:, None]
    wanted = np.array([160, 320, 1000])
    found = power_law(SIZES, values, wanted)[:, 0]
    assert found == pytest.approx(law(wanted, 0.9, 1.5, power), abs=2e-3)


def test_noisy_curves_are_fitted_as_by_a_search():
    rng = np.random.default_rng(0)
    for _ in range(5):
        values = law(SIZES, 0.85, 1.0, 0.6) + rng.normal(0, 0.005, 4)
        found = power_law(SIZES, values[:, None], SIZES)[:, 0]
        best, _ = curve_fit(
            law, SIZES, values, (0.9, 1, 0.5), bounds=((-1, 0, 0.1), (2, 50, 2))
        )
        ours, theirs = (((f - values) ** 2).sum() for f in (found, law(SIZES, *best)))
        assert ours == pytest.approx(theirs, rel=0.05, abs=1e-7)


def test_a_curve_that_falls_is_flat():
    values = np.array([[0.8], [0.7], [0.65], [0.6]])
    assert power_law(SIZES, values, np.array([500]))[0, 0] == pytest.approx(0.6875)


def test_the_gain_has_an_interval_and_none_where_nothing_is_learned():
    rng = np.random.default_rng(0)
    true = law(SIZES, 0.9, 1.5, 0.5)
    noise = rng.normal(0, 0.01, (4, 500))
    found = expected_gain(SIZES, true, true[:, None] + noise, 50)
    wanted = law(210, 0.9, 1.5, 0.5) - law(160, 0.9, 1.5, 0.5)
    assert found.value == pytest.approx(wanted, abs=1e-3)
    assert found.low < wanted < found.high
    flat = expected_gain(SIZES, np.full(4, 0.5), 0.5 + noise, 50)
    assert flat.low == pytest.approx(0, abs=1e-12)
