"""Differences of two values, Holm's correction, the corrected resampled t test."""

import numpy as np
import pytest
from scipy.stats import norm, t, ttest_1samp

from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.statistics.paired import (
    corrected_resampled_t,
    difference_interval,
    holm,
    p_value,
    patient_correlation,
)
from mshisto_ray.statistics.score_interval import share_theory


def test_the_difference_of_two_shares_of_newcombe():
    """Newcombe (1998), method 10, example (a): 56/70 - 48/80 is .0524 to .3339."""

    def wilson(x, n):
        p, z = x / n, norm.ppf(0.975)
        middle, width = x + z * z / 2, z * np.sqrt(n * p * (1 - p) + z * z / 4)
        ends = [(middle + sign * width) / (n + z * z) for sign in (-1, 1)]
        return Interval(p, *ends)

    found = difference_interval(wilson(56, 70), wilson(48, 80), 0.0)
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_symmetric_intervals_give_the_standard_error_of_a_difference():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b, r = *rng.uniform(0.01, 0.1, 2), rng.uniform(-1, 1)
        one = Interval(0.8, 0.8 - 1.96 * a, 0.8 + 1.96 * a)
        two = Interval(0.7, 0.7 - 1.96 * b, 0.7 + 1.96 * b)
        found = difference_interval(one, two, r)
        error = np.sqrt(a * a + b * b - 2 * r * a * b)
        assert found.high - 0.1 == pytest.approx(1.96 * error)
        assert 0.1 - found.low == pytest.approx(1.96 * error)
        assert p_value(found) == pytest.approx(2 * norm.sf(0.1 / error), abs=1e-4)


def test_models_that_agree_near_a_bound_differ_by_less_than_their_own_intervals():
    """Both low ends are reached together, so that the difference moves with them."""
    one, two = Interval(0.95, 0.85, 0.98), Interval(0.92, 0.81, 0.96)
    found = difference_interval(one, two, 1.0)
    assert (found.low, found.high) == pytest.approx((0.03 - 0.01, 0.03 + 0.01))
    apart = difference_interval(one, two, 0.0)
    assert 0.03 - apart.low == pytest.approx(np.hypot(0.10, 0.04))
    assert apart.high - 0.03 == pytest.approx(np.hypot(0.03, 0.11))
    between = difference_interval(one, two, 0.9)
    assert 0.03 - between.low == pytest.approx(
        np.sqrt(0.1 * (0.10**2 + 0.04**2) + 0.9 * 0.01**2)
    )
    against = difference_interval(one, two, -1.0)
    assert 0.03 - against.low == pytest.approx(0.10 + 0.04)
    mirrored = difference_interval(two, one, 0.9)
    assert (mirrored.low, mirrored.high) == pytest.approx((-between.high, -between.low))


@pytest.mark.parametrize(
    "counts", [(36, 12, 2, 0), (20, 4, 5, 11), (28, 0, 0, 28), (9, 8, 8, 1)]
)
def test_correlation_of_shares_has_the_continuity_correction_of_newcombe(counts):
    """Both right, one, the other, neither; phi by Newcombe (1998), method 10."""
    a, b, c, d = counts
    n = sum(counts)
    numerator = a * d - b * c
    if numerator > 0:
        numerator = max(numerator - n / 2, 0)
    product = (a + b) * (c + d) * (a + c) * (b + d)
    phi = numerator / np.sqrt(product) if product else 0.0
    one, two = (a + b) / n, (a + c) / n
    gap = ((b + c) / n - (one - two) ** 2) / n
    found = patient_correlation(
        one * (1 - one) / n, two * (1 - two) / n, gap, share_theory([n]).step
    )
    assert found == pytest.approx(phi)


def test_models_that_decide_alike_on_these_patients_may_differ_on_others():
    theory = share_theory([56])
    r = patient_correlation(0.25 / 56, 0.25 / 56, 0.0, theory.step)
    same = Interval(0.5, 0.37, 0.63)
    assert difference_interval(same, same, r).high == pytest.approx(0.035, abs=0.001)
    assert patient_correlation(0.0, 0.1, 0.1, theory.step) == 0
    assert patient_correlation(0.1, 0.1, np.nan, theory.step) == 0


def test_p_of_no_difference_and_of_none_known():
    assert p_value(Interval(0.0, -0.1, 0.1)) == 1
    assert p_value(Interval(0.1, 0.0, 0.2)) == pytest.approx(0.05)
    assert p_value(Interval(-0.1, -0.2, 0.0)) == pytest.approx(0.05)
    assert np.isnan(p_value(Interval(np.nan, np.nan, np.nan)))


def test_holm_equals_its_definition():
    rng = np.random.default_rng(0)
    for num in (1, 2, 7):
        p = rng.uniform(0, 0.2, num)
        found = holm(p)
        for level in (0.01, 0.05, 0.1, 0.3):
            rejected = set()
            for step, index in enumerate(np.argsort(p)):
                if p[index] > level / (num - step):
                    break
                rejected.add(int(index))
            assert rejected == set(np.flatnonzero(found <= level))
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert len(holm(np.array([]))) == 0


def test_holm_counts_a_comparison_that_is_not_defined():
    found = holm(np.array([0.01, np.nan]))
    assert found[0] == pytest.approx(0.02) and np.isnan(found[1])


def test_the_resampled_t_without_a_correction_is_that_of_scipy():
    values = np.random.default_rng(0).normal(0.3, 1, 30)
    plain = ttest_1samp(values, 0).pvalue
    assert corrected_resampled_t(values, 0.0) == pytest.approx(plain)
    assert corrected_resampled_t(values, 1 / 9) > plain


def test_the_resampled_t_by_hand():
    """Mean .02, variance .0001 over ten folds of ten: t = .02 / sqrt(.0001 * .2111)."""
    values = 0.02 + 0.01 * np.sqrt(9 / 10) * np.array([1, -1] * 5)
    assert values.var(ddof=1) == pytest.approx(1e-4)
    wanted = 2 * t.sf(0.02 / np.sqrt(1e-4 * (1 / 10 + 1 / 9)), 9)
    assert corrected_resampled_t(values, 1 / 9) == pytest.approx(wanted)


def test_folds_without_a_value_are_left_out():
    assert corrected_resampled_t(np.zeros(4), 0.25) == 1
    assert corrected_resampled_t(np.full(4, 0.1), 0.25) < 1e-6
    assert np.isnan(corrected_resampled_t(np.array([0.1, np.nan]), 0.25))
    values = np.array([0.1, 0.2, 0.15])
    padded = np.append(values, np.nan)
    assert corrected_resampled_t(padded, 0.5) == corrected_resampled_t(values, 0.5)
