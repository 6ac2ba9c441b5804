import numpy as np
import pytest
import torch

from mshisto_ray import components
from mshisto_ray.contrastive import monitor

LOSSES = "mshisto_ray.contrastive.losses"


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(size=(40, 6))


@pytest.fixture
def relations():
    pair = np.arange(40) // 2
    same = pair[:, None] == pair
    return same & ~np.eye(40, dtype=bool), ~same


def test_alignment_uniformity_and_dead_negatives_by_loops(values, relations):
    rows = values / np.linalg.norm(values, axis=1, keepdims=True)
    near, everything, dead = [], [], []
    for i in range(40):
        for j in range(i + 1, 40):
            d = ((rows[i] - rows[j]) ** 2).sum()
            everything.append(np.exp(-2 * d))
            if relations[0][i, j]:
                near.append(d)
            if relations[1][i, j]:
                dead.append(np.sqrt(d) >= 1.2)
    assert monitor.alignment(values, relations[0]) == pytest.approx(np.mean(near))
    uniform = np.log(np.mean(everything))
    assert monitor.uniformity(values) == pytest.approx(uniform)
    found = monitor.dead_negatives(values, relations[1], 1.2, True)
    assert found == pytest.approx(np.mean(dead)) and 0 < found < 1


def test_near_far_auc_by_loops():
    generator = np.random.default_rng(0)
    near, far = generator.integers(0, 6, 30), generator.integers(2, 9, 20)
    wins = [(f > n) + 0.5 * (f == n) for f in far for n in near]
    assert monitor.near_far_auc(near, far) == pytest.approx(np.mean(wins))
    assert np.isnan(monitor.near_far_auc(near, far[:0]))


def test_recall_by_loops(values):
    targets = values + np.random.default_rng(1).normal(0, 2, values.shape)
    a, b = monitor.unit(values), monitor.unit(targets)
    for k in (1, 10):
        hits = [i in np.argsort(-(b @ a[i]))[:k] for i in range(len(a))]
        assert monitor.recall_at(values, targets, k) == pytest.approx(np.mean(hits))


def test_recall_of_features_that_are_all_the_same_is_not_a_hit():
    same = np.ones((40, 4))
    assert monitor.recall_at(same, same, 10) == 0


def test_spread_is_one_for_features_uniform_on_the_sphere():
    values = np.random.default_rng(0).normal(size=(4000, 32))
    assert monitor.spread(values) == pytest.approx(1, abs=0.01)
    assert monitor.spread(np.ones((9, 4))) == 0


@pytest.mark.parametrize(
    "values, message",
    [
        (np.ones((30, 8)) + 1e-3 * np.random.default_rng(0).random((30, 8)), "differ"),
        (np.random.default_rng(0).normal(size=(30, 2)) @ np.eye(2, 8), "directions"),
        (np.random.default_rng(0).normal(size=(30, 8)), None),
    ],
    ids=["point", "plane", "healthy"],
)
def test_collapse_is_reported(values, message):
    part = components.check(LOSSES, components.Part(name="margin"))
    none = np.zeros((30, 30), bool)
    found = monitor.projection_monitors(
        torch.from_numpy(values), none, none, components.build(LOSSES, part)
    )
    problem = monitor.collapse(found)
    assert (problem is None) == (message is None)
    assert message is None or message in problem
    assert np.isnan(found["alignment"]) and np.isnan(found["dead_negatives"])
