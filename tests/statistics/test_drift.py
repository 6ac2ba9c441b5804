"""The drift test: false alarms, what it finds, and its p by a naive loop."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from mshisto_ray.statistics.drift import DriftTest


def draw(num, seed, dim=20, shift=0.0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(dim, dim)) / 4
    return rng.standard_t(5, (num, dim)) @ mixing + shift


def test_p_counts_training_patients_farther_out():
    values, new = draw(23, 0), draw(4, 1)
    found = DriftTest(values, folds=3).p_values(new)
    place = np.random.default_rng(0).permutation(23) % 3
    for row, p in zip(new, found, strict=True):
        farther = 1
        for fold in range(3):
            model = LedoitWolf().fit(values[place != fold])
            own = model.mahalanobis(row[None])[0]
            for other in values[place == fold]:
                farther += model.mahalanobis(other[None])[0] >= own
        assert p == pytest.approx(farther / 24)


@pytest.mark.parametrize("patients", [40, 120])
def test_false_alarms_are_as_many_as_stated(patients):
    single, cohorts = [], []
    for seed in range(60):
        test = DriftTest(draw(patients, seed))
        new = draw(30, 1000 + seed)
        single.append((test.p_values(new) < 0.05).mean())
        cohorts.append(test.cohort_p(new) < 0.05)
    assert np.mean(single) < 0.07
    assert np.mean(cohorts) <= 0.1


def test_shifted_patients_are_found():
    test = DriftTest(draw(120, 0))
    assert (test.p_values(draw(30, 1, shift=3)) < 0.05).mean() > 0.8
    assert test.cohort_p(draw(30, 1, shift=3)) < 0.001
