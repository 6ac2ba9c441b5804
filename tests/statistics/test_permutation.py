"""Permutations by patient, and p corrected for the number of configs."""

import numpy as np
import pytest

from mshisto_ray.statistics.permutation import max_p_values, permute_by_patient


def test_rows_of_a_patient_stay_together():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 4, 40)
    patient = np.repeat(np.arange(40), counts)
    target = np.repeat(rng.integers(0, 2, 40), counts)
    order = rng.permutation(len(patient))
    patient, target = patient[order], target[order]
    found = permute_by_patient(target, patient, np.random.default_rng(1))
    assert (found != target).any()
    assert np.bincount(found).tolist() == np.bincount(target).tolist()
    for person in range(40):
        assert len(set(found[patient == person])) == 1


def test_every_exchange_is_as_likely():
    patient, target = np.array(["a", "b", "c"]), np.array([0, 1, 2])
    rng = np.random.default_rng(0)
    seen = [tuple(permute_by_patient(target, patient, rng)) for _ in range(6000)]
    counts = {key: seen.count(key) for key in set(seen)}
    assert len(counts) == 6
    assert min(counts.values()) > 850


def test_p_of_the_best_of_many():
    rng = np.random.default_rng(0)
    permuted, observed = rng.normal(size=(99, 5)), np.array([0.1, 5, 1, -3, 2])
    found = max_p_values(observed, permuted)
    for p, value in zip(found, observed, strict=True):
        assert p == pytest.approx(
            (1 + sum(max(row) >= value for row in permuted)) / 100
        )


def test_it_rejects_as_often_as_stated_where_the_best_of_many_would_not():
    rng = np.random.default_rng(1)
    corrected, naive = [], []
    for _ in range(400):
        values = rng.normal(size=(40, 30))
        best = values[0].argmax()
        corrected.append(max_p_values(values[0], values[1:])[best] <= 0.05)
        naive.append((1 + (values[1:, best] >= values[0, best]).sum()) / 40 <= 0.05)
    assert np.mean(corrected) <= 0.08
    assert np.mean(naive) > 0.5
