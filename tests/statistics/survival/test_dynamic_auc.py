"""Time-dependent AUROC, by scikit-survival and a naive loop."""

import numpy as np
import pytest
from fixtures.survival import draw_cohort
from sksurv.metrics import cumulative_dynamic_auc
from sksurv.util import Surv

from mshisto_ray.statistics.survival.dynamic_auc import dynamic_auc
from mshisto_ray.statistics.survival.kaplan_meier import censoring_curve


@pytest.mark.parametrize("seed", range(3))
def test_it_is_that_of_scikit_survival(seed):
    time, event, risk = draw_cohort(seed=seed)
    horizons = np.quantile(time, [0.2, 0.5, 0.8])
    known = Surv.from_arrays(event, time)
    reference, _ = cumulative_dynamic_auc(known, known, risk, horizons)
    assert dynamic_auc(time, event, risk, horizons)[0] == pytest.approx(reference)


def test_it_equals_a_loop_over_pairs_with_ties():
    time, event, risk = draw_cohort(60, ties=True)
    observed = censoring_curve(time, event).before(time)[0]
    horizon = float(np.median(time))
    found = possible = 0.0
    for i in range(60):
        for j in range(60):
            if event[i] and time[i] <= horizon < time[j]:
                higher = 1.0 if risk[i] > risk[j] else 0.5 * (risk[i] == risk[j])
                possible += 1 / observed[i]
                found += higher / observed[i]
    value = dynamic_auc(time, event, risk, np.array([horizon]))[0, 0]
    assert value == pytest.approx(found / possible, abs=1e-12)


def test_a_horizon_outside_the_data_has_no_value():
    time, event, risk = draw_cohort(30)
    outside = np.array([0.0, time.max() + 1])
    assert np.isnan(dynamic_auc(time, event, risk, outside)).all()


def test_weights_are_copies_of_patients():
    time, event, risk = draw_cohort(40, ties=True)
    counts = np.random.default_rng(2).integers(0, 3, (6, 40))
    horizons = np.quantile(time, [0.3, 0.6])
    found = dynamic_auc(time, event, risk, horizons, counts.astype(float))
    for values, num in zip(found, counts, strict=True):
        index = np.repeat(np.arange(40), num)
        plain = dynamic_auc(time[index], event[index], risk[index], horizons)[0]
        assert values == pytest.approx(plain, abs=1e-12)
