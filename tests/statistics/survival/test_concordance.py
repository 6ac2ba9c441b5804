"""Harrell's and Uno's C, by naive loops over pairs and by scikit-survival."""

import numpy as np
import pytest
from fixtures.survival import draw_cohort
from sksurv.metrics import concordance_index_censored, concordance_index_ipcw
from sksurv.util import Surv

from mshisto_ray.statistics.survival.concordance import harrell, uno
from mshisto_ray.statistics.survival.kaplan_meier import censoring_curve


def by_pairs(time, event, risk, case_weight):
    found = possible = 0.0
    for i in range(len(time)):
        for j in range(len(time)):
            if event[i] and time[i] < time[j]:
                higher = 1.0 if risk[i] > risk[j] else 0.5 * (risk[i] == risk[j])
                possible += case_weight[i]
                found += case_weight[i] * higher
    return found / possible


@pytest.mark.parametrize("ties", [False, True])
def test_both_equal_a_loop_over_pairs(ties):
    time, event, risk = draw_cohort(60, ties=ties)
    ones = np.ones(60)
    assert harrell(time, event, risk)[0] == pytest.approx(
        by_pairs(time, event, risk, ones), abs=1e-12
    )
    observed = censoring_curve(time, event).before(time)[0]
    assert uno(time, event, risk)[0] == pytest.approx(
        by_pairs(time, event, risk, 1 / np.maximum(observed, 1e-9) ** 2), abs=1e-12
    )


@pytest.mark.parametrize("seed", range(5))
def test_both_are_those_of_scikit_survival(seed):
    time, event, risk = draw_cohort(seed=seed)
    assert harrell(time, event, risk)[0] == pytest.approx(
        concordance_index_censored(event, time, risk)[0]
    )
    known = Surv.from_arrays(event, time)
    until = np.quantile(time, 0.8)
    reference = concordance_index_ipcw(known, known, risk, tau=until)[0]
    assert uno(time, event, risk, until=until)[0] == pytest.approx(reference)


def test_weights_are_copies_of_patients():
    time, event, risk = draw_cohort(40, ties=True)
    counts = np.random.default_rng(1).integers(0, 3, (6, 40))
    for measure in (harrell, uno):
        found = measure(time, event, risk, counts.astype(float))
        for value, num in zip(found, counts, strict=True):
            index = np.repeat(np.arange(40), num)
            plain = measure(time[index], event[index], risk[index])[0]
            assert value == pytest.approx(plain, abs=1e-12)


def test_no_comparable_pair_has_no_value():
    time, event = np.array([1.0, 2, 3]), np.array([False, False, True])
    for measure in (harrell, uno):
        assert np.isnan(measure(time, event, np.arange(3.0))[0])


def test_the_order_decides():
    time, event, _ = draw_cohort(50)
    assert harrell(time, event, -time)[0] == 1
    assert harrell(time, event, time)[0] == 0
    assert harrell(time, event, time * 0)[0] == 0.5
