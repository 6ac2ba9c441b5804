"""Mean embeddings of patients, and the drift of new ones."""

import numpy as np
import pytest

from mshisto_ray.decision.reference import find_drift, patient_means
from mshisto_ray.statistics.drift import DriftTest


def test_slides_of_a_patient_count_alike():
    values = {0: np.array([1.0, 0]), 1: np.array([3.0, 0]), 2: None, 3: np.ones(2)}
    names, means = patient_means(["b", "a", "a", "c"], [[3], [0], [1], [2]], values.get)
    assert names == ["a", "b"]  # c has no tile
    np.testing.assert_array_equal(means, [[2, 0], [1, 1]])
    assert means.dtype == np.float32


def test_p_are_of_patients_and_only_of_new_ones():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(60, 3)).astype(np.float32)
    means = rng.normal(size=(5, 3))
    means[4] += 9
    patients, slides = ["x", "old", "x", "y", "z"], [1, 1, 3, 1, 1]
    trained = [False, True, False, False, False]
    found = find_drift(reference, patients, slides, means, trained)
    test = DriftTest(reference.astype(float))
    x = (means[0] + 3 * means[2]) / 4
    expected = test.p_values(np.stack([x, means[3], means[4]]))
    np.testing.assert_allclose(found.p[[0, 2, 3, 4]], expected[[0, 0, 1, 2]])
    assert np.isnan(found.p[1])
    assert found.patients == 3
    assert found.apart == (expected < 0.05).sum() >= 1
    assert find_drift(reference, patients, slides, means, [True] * 5) is None


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_the_cohort_has_one_p(shift):
    rng = np.random.default_rng(1)
    reference = rng.normal(size=(80, 4)).astype(np.float32)
    means = rng.normal(size=(40, 4)) + shift
    names = [f"n{i}" for i in range(40)]
    found = find_drift(reference, names, [1] * 40, means, [False] * 40)
    assert (found.cohort < 0.05) == (shift > 0)
