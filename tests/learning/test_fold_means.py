"""Folds that each rank well, and together badly."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from mshisto_ray.learning.fold_means import fold_means, pooling_notes, within_folds
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.result_files import measure
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.tile_classification.head.classes import TileClasses


def made(kind, shift, per_fold=40, seed=0):
    """Two folds whose models rank as well, of levels ``shift`` apart."""
    rng = np.random.default_rng(seed)
    num = 2 * per_fold
    truth, fold = np.arange(num) % 2, np.arange(num) // per_fold
    logit = 3 * truth + rng.normal(size=num) + shift * fold
    share = 1 / (1 + np.exp(1.5 + shift / 2 - logit))
    names = np.array([f"p{i // 2}" for i in range(num)], object)
    return Predictions(
        ("a", "b"), names, names, names, truth, fold, np.zeros(num, int),
        np.stack([1 - share, share], 1), kind,
    )  # fmt: skip


KINDS = [TargetConfig().build(), TileClasses(column="label")]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.noun)
def test_levels_that_differ_are_said_and_equal_ones_are_not(kind):
    far = made(kind, 8.0)
    metrics = measure(far, None)
    each = [far.take(far.fold == fold) for fold in (0, 1)]
    for name, reference in (
        ("auroc", roc_auc_score), ("pr_auc", average_precision_score),
    ):  # fmt: skip
        wanted = np.mean([reference(p.target, p.probabilities[:, 1]) for p in each])
        assert metrics[f"test_{name}_of_folds"] == pytest.approx(wanted)
    assert metrics["test_auroc_of_folds"] > 0.95 and metrics["test_auroc_mean"] < 0.8
    notes = pooling_notes(metrics, kind.titles)
    assert len(notes) == 2
    assert f"pooled is {metrics['test_auroc_mean']:.3f}, within folds" in notes[0]
    near = measure(made(kind, 0.0), None)
    assert pooling_notes(near, kind.titles) == []
    assert pooling_notes({}, kind.titles) == []


def test_folds_of_one_class_are_left_out():
    given = made(KINDS[0], 0.0)
    lone = (given.fold == 0) | (given.target == 1)
    found = fold_means(given.take(lone))
    whole = fold_means(given.take(given.fold == 0))
    assert found == whole and math.isfinite(found["test_auroc_of_folds"])
    none = fold_means(given.take(given.target == 1))
    assert all(math.isnan(value) for value in none.values())


def test_probabilities_alone_have_the_same_means():
    given = made(KINDS[0], 8.0)
    found = within_folds(given.probabilities, given.target, given.fold)
    wanted = fold_means(given)
    assert {f"test_{n}_of_folds": v for n, v in found.items()} == pytest.approx(wanted)
