"""Score intervals against closed forms, published numbers and root finding."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm
from scipy.stats import t as student

from mshisto_ray.statistics.score_interval import (
    auroc_theory,
    effective_patients,
    score_interval,
    share_theory,
)

Z = norm.ppf(0.975)


def ends(value, observed, degrees, theory):
    low, high = score_interval(
        np.array([value]), np.array([observed]), np.array([degrees]), theory
    )
    return low[0], high[0]


@pytest.mark.parametrize(("x", "n"), [(0, 10), (3, 10), (81, 263), (15, 148), (29, 29)])
def test_shares_of_independent_patients_are_those_of_wilson(x, n):
    p = x / n
    middle, width = x + Z * Z / 2, Z * np.sqrt(n * p * (1 - p) + Z * Z / 4)
    wanted = [(middle + sign * width) / (n + Z * Z) for sign in (-1, 1)]
    found = ends(p, p * (1 - p) / n, np.inf, share_theory([n]))
    assert found == pytest.approx(wanted, abs=1e-9)


def test_published_intervals_of_wilson():
    """Newcombe (1998), table I: 81/263 is .2553 to .3662; 0/20 is 0 to .1611."""
    found = ends(81 / 263, 81 / 263 * 182 / 263 / 263, np.inf, share_theory([263]))
    assert found == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert ends(0.0, 0.0, np.inf, share_theory([20])) == pytest.approx(
        (0, 0.1611), abs=5e-5
    )


def newcombe(t, m, n):
    """Variance of method 5: Q1 = t / (2 - t), Q2 = 2 t^2 / (1 + t) of 1982."""
    q1, q2, common = t / (2 - t), 2 * t * t / (1 + t), (m + n) / 2 - 1
    return (t * (1 - t) + common * (q1 - t * t) + common * (q2 - t * t)) / (m * n)


def test_the_theory_of_an_auroc_is_method_5():
    for t in (0.5, 0.8, 0.97):
        found = auroc_theory([(12, 30)]).variance(np.array(t))
        assert found == pytest.approx(newcombe(t, 12, 30))
    several = auroc_theory([(12, 30), (5, 37)])
    wanted = (newcombe(0.8, 12, 30) + newcombe(0.8, 5, 37)) / 2
    assert several.variance(np.array(0.8)) == pytest.approx(wanted)
    assert several.patients == 5


@pytest.mark.parametrize("t", [0.5, 0.83, 0.99])
def test_an_auroc_solves_its_equation(t):
    """With d added to both variances and degrees of freedom by Satterthwaite."""
    m, n, observed, degrees = 15, 25, 0.004, 8
    nearer = (t * m + 1) / (m + 2)
    d = max(0, newcombe(nearer, m, n) - newcombe(t, m, n))
    ratio = (observed + d) / (newcombe(t, m, n) + d)
    q = student.ppf(0.975, degrees * (observed + d) ** 2 / observed**2)

    def surprise(x):
        return (t - x) ** 2 - q * q * ratio * newcombe(x, m, n)

    found = ends(t, observed, degrees, auroc_theory([(m, n)]))
    assert found[0] == pytest.approx(brentq(surprise, 1e-9, t), abs=1e-9)
    high = 1.0 if surprise(1 - 1e-12) < 0 else brentq(surprise, t, 1 - 1e-12)
    assert found[1] == pytest.approx(high, abs=1e-9)


def test_an_auroc_of_1_solves_the_equation_of_the_theory_alone():
    low, high = ends(1.0, 0.0, np.inf, auroc_theory([(20, 20)]))
    wanted = brentq(lambda x: (1 - x) ** 2 - Z * Z * newcombe(x, 20, 20), 0.5, 1 - 1e-9)
    assert (low, high) == (pytest.approx(wanted, abs=1e-9), 1)
    assert 0.85 < low < 0.95


def test_far_from_the_ends_it_is_the_value_and_its_standard_errors():
    low, high = ends(0.7, 1e-6, np.inf, auroc_theory([(1e4, 1e4)]))
    assert (low, high) == pytest.approx((0.7 - Z * 1e-3, 0.7 + Z * 1e-3), abs=1e-5)


def test_an_unknown_variance_is_that_of_the_theory():
    theory = auroc_theory([(1, 12)])
    value = np.array(0.8)
    wanted = ends(0.8, float(theory.variance(value)), np.inf, theory)
    assert ends(0.8, np.nan, np.nan, theory) == pytest.approx(wanted)
    # Nor is one known that was estimated without a degree of freedom.
    assert ends(0.8, 0.0, 0.0, theory) == pytest.approx(wanted)


def test_what_is_not_defined_has_no_interval_and_no_patients_leave_all_open():
    assert np.isnan(ends(np.nan, np.nan, np.nan, share_theory([9]))).all()
    assert ends(0.0, 0.0, np.inf, share_theory([0])) == (0, 1)


def test_many_values_at_once_are_those_one_by_one():
    values = np.array([0.5, 0.9, 1.0])
    observed = np.array([0.01, 0.002, 0.0])
    degrees = np.array([4.0, 7.0, np.inf])
    theory = auroc_theory([(9, 14)])
    low, high = score_interval(values, observed, degrees, theory)
    for i in range(3):
        assert (low[i], high[i]) == ends(values[i], observed[i], degrees[i], theory)


def test_effective_patients():
    assert effective_patients(np.array([1, 1, 1])) == 3
    assert effective_patients(np.array([2, 2, 2, 0])) == 3
    assert effective_patients(np.array([1, 2, 3, 4])) == pytest.approx(100 / 30)
    assert effective_patients(np.zeros(4)) == 0


def test_a_step_is_one_patient_or_one_pair_of_a_class():
    assert share_theory([20]).step == 1 / 20
    assert share_theory([20, 10]).step == pytest.approx((1 / 20 + 1 / 10) / 4)
    assert auroc_theory([(4, 5)]).step == 1 / 20
    assert auroc_theory([(4, 5), (2, 7)]).step == pytest.approx((1 / 20 + 1 / 14) / 4)
    assert auroc_theory([(0, 5)]).step == np.inf, "a class without patients"
