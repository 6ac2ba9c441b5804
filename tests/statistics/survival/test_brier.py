"""Brier scores with censoring, by scikit-survival and a naive loop."""

import numpy as np
import pytest
from fixtures.survival import draw_cohort
from sksurv.metrics import brier_score, integrated_brier_score
from sksurv.util import Surv

from mshisto_ray.statistics.survival.brier import brier, integrated_brier
from mshisto_ray.statistics.survival.kaplan_meier import censoring_curve


def predict(risk, horizons):
    return np.exp(-np.exp(risk)[:, None] * horizons / 20)


@pytest.mark.parametrize("seed", range(3))
def test_both_are_those_of_scikit_survival(seed):
    time, event, risk = draw_cohort(seed=seed)
    horizons = np.linspace(*np.quantile(time, [0.1, 0.8]), 12)
    survival, known = predict(risk, horizons), Surv.from_arrays(event, time)
    found = brier(time, event, survival, horizons)
    _, reference = brier_score(known, known, survival, horizons)
    assert found[0] == pytest.approx(reference)
    whole = integrated_brier_score(known, known, survival, horizons)
    assert integrated_brier(found, horizons)[0] == pytest.approx(whole)


def test_it_equals_a_loop_with_ties():
    time, event, risk = draw_cohort(50, ties=True)
    horizon = float(np.median(time))
    survival = predict(risk, np.array([horizon]))
    curve = censoring_curve(time, event)
    total = 0.0
    for i in range(50):
        if time[i] <= horizon and event[i]:
            total += survival[i, 0] ** 2 / curve.before(time[i : i + 1])[0, 0]
        elif time[i] > horizon:
            total += (1 - survival[i, 0]) ** 2 / curve.at(np.array([horizon]))[0, 0]
    value = brier(time, event, survival, np.array([horizon]))[0, 0]
    assert value == pytest.approx(total / 50, abs=1e-12)


def test_without_censoring_it_is_the_plain_score():
    rng = np.random.default_rng(0)
    time, survival = rng.exponential(5, 40), rng.uniform(size=(40, 1))
    found = brier(time, np.ones(40, bool), survival, np.array([4.0]))[0, 0]
    assert found == pytest.approx(((survival[:, 0] - (time > 4)) ** 2).mean())


def test_nobody_left_has_no_value_and_weights_are_copies():
    time, event, risk = draw_cohort(40, ties=True)
    horizons = np.array([np.median(time), time.max()])
    survival = predict(risk, horizons)
    counts = np.random.default_rng(3).integers(0, 3, (6, 40))
    found = brier(time, event, survival, horizons, counts.astype(float))
    assert np.isnan(found[:, 1]).all()
    for value, num in zip(found[:, 0], counts, strict=True):
        index = np.repeat(np.arange(40), num)
        plain = brier(time[index], event[index], survival[index], horizons)[0, 0]
        assert value == pytest.approx(plain)
