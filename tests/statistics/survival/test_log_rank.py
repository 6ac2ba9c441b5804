"""The log-rank test, by scikit-survival."""

import numpy as np
import pytest
from fixtures.survival import draw_cohort
from sksurv.compare import compare_survival
from sksurv.util import Surv

from mshisto_ray.statistics.survival.log_rank import log_rank


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("groups", [2, 3, 4])
def test_it_is_that_of_scikit_survival(groups, ties):
    time, event, risk = draw_cohort(ties=ties)
    group = np.argsort(np.argsort(risk + np.random.default_rng(0).normal(0, 2, 120)))
    group = group * groups // 120
    found = log_rank(time, event, group)
    statistic, p = compare_survival(Surv.from_arrays(event, time), group)
    assert (found.statistic, found.p) == pytest.approx((statistic, p))
    assert found.degrees == groups - 1


def test_nothing_to_compare():
    time, event, _ = draw_cohort(20)
    for found in (
        log_rank(time, event, np.zeros(20)),
        log_rank(time, np.zeros(20, bool), np.arange(20) % 2),
    ):
        assert np.isnan(found.p)
        assert found.degrees == 0
