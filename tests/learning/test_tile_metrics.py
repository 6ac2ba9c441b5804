"""Metrics of tiles against scikit-learn, their bootstrap against a loop."""

import numpy as np
import pytest
from sklearn import metrics as reference

from mshisto_ray.learning import tile_metrics as module
from mshisto_ray.learning.tile_metrics import METRICS, tile_metrics
from mshisto_ray.statistics.bootstrap import REPLICATES, SEED, draw_counts


def drawn(classes, num=400, patients=9, seed=0):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, num)
    logits = rng.normal(size=(num, classes)).round(1) + np.eye(classes)[target]
    weights = np.exp(logits)
    probabilities = weights / weights.sum(1, keepdims=True)
    return probabilities, target, rng.integers(0, patients, num)


def by_scikit_learn(probabilities, target):
    classes, called = probabilities.shape[1], probabilities.argmax(1)
    kind = "binary" if classes == 2 else "macro"
    shares = {
        name: getattr(reference, f"{name}_score")(target, called, average=kind)
        for name in ("precision", "recall", "f1")
    }
    each = [1] if classes == 2 else range(classes)
    ranks = {
        name: np.mean([score(target == c, probabilities[:, c]) for c in each])
        for name, score in (
            ("pr_auc", reference.average_precision_score),
            ("auroc", reference.roc_auc_score),
        )
    }
    return {
        **shares,
        **ranks,
        "accuracy": reference.accuracy_score(target, called),
        "balanced_accuracy": reference.balanced_accuracy_score(target, called),
        "kappa": reference.cohen_kappa_score(target, called),
        "weighted_f1": reference.f1_score(target, called, average="weighted"),
    }


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_every_value_is_that_of_scikit_learn(classes):
    probabilities, target, patient = drawn(classes)
    found = tile_metrics(probabilities, target, patient).values
    wanted = by_scikit_learn(probabilities, target)
    assert set(found) == set(METRICS) == set(wanted)
    for name in METRICS:
        assert found[name] == pytest.approx(wanted[name], abs=1e-12), name


@pytest.mark.parametrize("classes", [2, 3])
def test_replicates_are_those_of_patients_drawn_in_a_loop(classes):
    probabilities, target, patient = drawn(classes)
    found = tile_metrics(probabilities, target, patient).replicates
    generator = np.random.default_rng(SEED)
    counts = draw_counts(9, module._REPLICATES_AT_ONCE, generator)
    for place in (0, 7, 99):
        rows = np.concatenate(
            [
                np.repeat(np.flatnonzero(patient == p), n)
                for p, n in enumerate(counts[place])
            ]
        )
        wanted = by_scikit_learn(probabilities[rows], target[rows])
        for name in METRICS:
            assert found[name][place] == pytest.approx(wanted[name], abs=1e-9), name
    assert all(len(found[name]) == REPLICATES for name in METRICS)


def test_quantiles_of_many_scores_hardly_move_a_replicate():
    rng = np.random.default_rng(1)
    target, patient = rng.integers(0, 2, 6000), rng.integers(0, 9, 6000)
    score = 1 / (1 + np.exp(-(rng.normal(size=6000) + target)))
    found = tile_metrics(np.stack([1 - score, score], 1), target, patient).replicates
    first = draw_counts(9, module._REPLICATES_AT_ONCE, np.random.default_rng(SEED))[0]
    wanted = reference.roc_auc_score(target, score, sample_weight=first[patient])
    assert found["auroc"][0] == pytest.approx(wanted, abs=1e-4)


def test_memory_is_that_of_counts_and_intervals_hold_the_value():
    probabilities, target, patient = drawn(3, num=3000)
    found = tile_metrics(probabilities, target, patient)
    for name in METRICS:
        interval = found.interval(name)
        assert interval.low < interval.value < interval.high, name
    spread = module._Spread.of(probabilities[:, 0], target == 0, patient, 9)
    assert spread.positive.shape[1] <= module._BINS


def test_one_patient_has_no_interval():
    probabilities, target, patient = drawn(2)
    interval = tile_metrics(probabilities, target, patient * 0).interval("auroc")
    assert np.isfinite(interval.value) and np.isnan([interval.low, interval.high]).all()
