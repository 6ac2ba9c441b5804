"""Permutations by patient, and p corrected for the number of configs."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from mshisto_ray.learning.metrics import auroc
from mshisto_ray.statistics.permutation import (
    exchange_sequences,
    hilbert_places,
    max_p_values,
    permute_by_patient,
)


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


def test_the_curve_takes_every_cell_once_and_steps_to_a_neighbour():
    row, col = np.divmod(np.arange(256), 16)
    order = np.argsort(hilbert_places(row, col))
    steps = np.abs(np.diff(row[order])) + np.abs(np.diff(col[order]))
    assert (steps == 1).all()
    some = np.random.default_rng(0).permutation(256)[:50]
    assert len(set(hilbert_places(row[some], col[some]))) == 50


def test_patients_give_their_whole_sequences():
    patients = np.repeat([5, 7, 9], [4, 8, 2])
    targets = np.repeat([0, 1, 2], [4, 8, 2])
    for seed in range(20):
        found = exchange_sequences(targets, patients, np.random.default_rng(seed))
        own = [set(found[patients == p]) for p in (5, 7, 9)]
        assert all(len(part) == 1 for part in own)
        assert set.union(*own) == {0, 1, 2}
    runs = np.repeat([0, 1], 6)
    two = np.concatenate([runs, runs])
    for seed in range(20):
        rng = np.random.default_rng(seed)
        found = exchange_sequences(two, np.repeat([0, 1], 12), rng)
        for part in (found[:12], found[12:]):
            assert part.sum() == 6  # one run of each, its end followed by its beginning
            assert (part != np.roll(part, 1)).sum() == 2


def cohort(rng, patients=12):
    """Smooth classes and smooth embeddings that have nothing to do with each other."""
    parts = []
    for patient in range(patients):
        shape = rng.integers(8, 15, 2)
        row, col = (axis.ravel() for axis in np.mgrid[: shape[0], : shape[1]])
        field = gaussian_filter(rng.normal(size=shape), 2.5).ravel()
        target = (field > rng.normal() * field.std() / 2).astype(int)
        values = [gaussian_filter(rng.normal(size=shape), 2.5) for _ in range(4)]
        values = np.stack(values, -1).reshape(-1, 4)
        parts.append((values, target, np.full(len(row), patient), row, col))
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def held_out_auroc(values, target, patient):
    scores = np.zeros(len(target))
    for fold in range(3):
        test = patient % 3 == fold
        own = values[~test] - values[~test].mean(0)
        truth = target[~test] - target[~test].mean()
        weights = np.linalg.solve(own.T @ own + 1e-3 * np.eye(4), own.T @ truth)
        scores[test] = values[test] @ weights
    return auroc(np.stack([-scores, scores], 1), target)


def within_patients(target, patient, rng):
    found = target.copy()
    for own in (patient == p for p in np.unique(patient)):
        found[own] = rng.permutation(found[own])
    return found


def test_sequences_hold_their_level_where_tiles_of_a_patient_would_not():
    rng = np.random.default_rng(0)
    rejected = {exchange_sequences: 0, within_patients: 0}
    for _ in range(60):
        values, target, patient, row, col = cohort(rng)
        observed = held_out_auroc(values, target, patient)
        along = np.lexsort((hilbert_places(row, col), patient))
        for exchange in rejected:
            found = []
            for _ in range(9):
                drawn = target.copy()
                drawn[along] = exchange(target[along], patient[along], rng)
                found.append(held_out_auroc(values, drawn, patient))
            p = max_p_values(np.array([observed]), np.array(found)[:, None])[0]
            rejected[exchange] += p <= 0.1
    # Of 60 cohorts 6 are expected.
    assert rejected[exchange_sequences] <= 12
    assert rejected[within_patients] >= 15
