"""Kaplan-Meier, by scikit-survival, by hand, and weighted."""

import numpy as np
import pytest
from fixtures.survival import draw_cohort
from sksurv.nonparametric import CensoringDistributionEstimator, kaplan_meier_estimator
from sksurv.util import Surv

from mshisto_ray.statistics.survival.kaplan_meier import (
    censoring_curve,
    kaplan_meier,
    log_log_band,
)


@pytest.mark.parametrize("ties", [False, True])
def test_curve_and_band_are_those_of_scikit_survival(ties):
    time, event, _ = draw_cohort(ties=ties)
    times, survival, band = kaplan_meier_estimator(event, time, conf_type="log-log")
    curve, low, high = log_log_band(time, event)
    assert np.array_equal(curve.times, times)
    assert curve.values[0] == pytest.approx(survival)
    inner = (survival > 0) & (survival < 1)
    assert low[inner] == pytest.approx(band[0][inner])
    assert high[inner] == pytest.approx(band[1][inner])
    assert np.array_equal(kaplan_meier(time, event).values, curve.values)


@pytest.mark.parametrize("ties", [False, True])
def test_the_curve_of_censoring_is_that_of_scikit_survival(ties):
    time, event, _ = draw_cohort(ties=ties)
    reference = CensoringDistributionEstimator().fit(Surv.from_arrays(event, time))
    when = np.unique(time)
    found = censoring_curve(time, event).at(when)[0]
    assert found == pytest.approx(reference.predict_proba(when))


def test_weights_are_copies_of_patients():
    time, event, _ = draw_cohort(30, ties=True)
    counts = np.random.default_rng(1).integers(0, 3, (5, 30))
    for curve in (kaplan_meier, censoring_curve):
        found = curve(time, event, counts.astype(float))
        for row, num in enumerate(counts):
            index = np.repeat(np.arange(30), num)
            plain = curve(time[index], event[index])
            when = np.linspace(0, time.max(), 40)
            assert found.at(when)[row] == pytest.approx(plain.at(when)[0])
            assert found.before(when)[row] == pytest.approx(plain.before(when)[0])


def test_a_curve_by_hand():
    """Five patients: 1 dies, 2 leaves, 3 dies (and one leaves then), 4 dies."""
    time = np.array([1.0, 2, 3, 3, 4])
    event = np.array([True, False, True, False, True])
    curve = kaplan_meier(time, event)
    assert curve.at(np.array([0, 1, 2.5, 3, 4]))[0] == pytest.approx(
        [1, 4 / 5, 4 / 5, 4 / 5 * 2 / 3, 0]
    )
    assert curve.before(np.array([1.0, 3]))[0] == pytest.approx([1, 4 / 5])
    # At 3 two are left after the event, one of whom leaves.
    leaving = censoring_curve(time, event)
    assert leaving.at(np.array([1.0, 2, 3]))[0] == pytest.approx([1, 3 / 4, 3 / 8])
