"""Fold models trained at once equal those trained one by one."""

import dataclasses

import numpy as np
import pytest
import torch

from mshisto_ray import components, config
from mshisto_ray.config import InputError
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.mil.fit import cross_validation, learner
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.mil.fit.together import can_train_together
from mshisto_ray.mil.model import POOLINGS

CPU = torch.device("cpu")
# 26 bags in four folds: training parts of 19 and 20 bags, so that some models end
# earlier than others.
SPLIT = SplitConfig(folds=4, repeats=2, validation=0)
INNER = SplitConfig(folds=4, repeats=2, validation=0.25)
QUICK = {
    "hidden": [30, 17],
    "dropout": 0.5,
    "noise": {"name": "gaussian", "sigma": 0.1},
    "optimiser": {"name": "sgd", "lr": 0.01, "weight_decay": 0.01},
    "epochs": 3,
    "early_stopping": None,
}


def settings(**keys):
    return config.validate(TrainConfig, QUICK | keys)


def both_ways(bags, training, monkeypatch):
    splits = plan_splits(bags, INNER if training.early_stopping else SPLIT, training)
    assert training.early_stopping or len({len(s.train) for s in splits}) > 1
    assert can_train_together(bags, training, len(splits), CPU)
    together = cross_validate(bags, splits, training, CPU)
    monkeypatch.setattr(cross_validation, "can_train_together", lambda *_: False)
    return together, cross_validate(bags, splits, training, CPU)


def assert_same(together, apart, weights=True):
    """``weights``: Adam moves weights of zero gradient by its rounding error."""
    for one, other in zip(together.models, apart.models, strict=True):
        assert not one.model.training
        assert one.epochs == other.epochs
        ours, theirs = one.model.state_dict(), other.model.state_dict()
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            if weights:
                torch.testing.assert_close(value, theirs[key], rtol=1e-4, atol=1e-5)
        for key in one.history[0]:
            losses = [[e[key] for e in m.history] for m in (one, other)]
            np.testing.assert_allclose(*losses, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        together.test.probabilities, apart.test.probabilities, atol=1e-4
    )


@pytest.mark.parametrize("name", components.available(POOLINGS))
def test_every_pooling_learns_the_same_as_one_by_one(planted, name, monkeypatch):
    bags, training = planted(num=26), settings(pooling={"name": name})
    with torch.random.fork_rng([]):
        pool = components.build(POOLINGS, training.pooling, 6, 2)
    linear = [m for m in pool.modules() if isinstance(m, torch.nn.Linear)]
    held = {id(p) for module in linear for p in module.parameters()}
    apart = any(getattr(m, "HAS_OTHER_ROWS", False) for m in pool.modules())
    if apart or any(id(p) not in held for p in pool.parameters()):
        assert not can_train_together(bags, training, 8, CPU)
        return
    assert_same(*both_ways(bags, training, monkeypatch))


@pytest.mark.parametrize(
    "keys",
    [
        {"batch_size": 4},
        {"optimiser": {"name": "adam", "lr": 0.01}},
        {"optimiser": {"name": "adamw", "lr": 0.01}, "batch_size": 3},
        {"vote": {"bags": 3, "size": 2}},
        {"hidden": [], "dropout": 0},
        {"draws": "balanced"},
        {"early_stopping": {"patience": 1}, "epochs": 6},
        {"early_stopping": {"metric": "auroc", "patience": 2}, "epochs": 6},
        {"early_stopping": {"patience": 1}, "vote": {"bags": 3, "size": 2}},
        {"early_stopping": {"patience": 2}, "tiles_per_epoch": 2, "epochs": 6},
    ],
    ids=str,
)
def test_every_setting_learns_the_same_as_one_by_one(planted, keys, monkeypatch):
    bags = planted(num=26, classes=3)
    pooling = {"name": "attention", "per_class": True}
    training = settings(pooling=pooling, **keys)
    assert_same(*both_ways(bags, training, monkeypatch), "optimiser" not in keys)


def test_validation_bags_are_looked_at_in_runs(planted, monkeypatch):
    monkeypatch.setattr(learner, "_LOOK_ROWS", 5)
    bags = planted(num=26)
    training = settings(pooling={"name": "clam"}, early_stopping={"patience": 1})
    assert_same(*both_ways(bags, training, monkeypatch))


def test_bags_of_one_instance_each(planted, monkeypatch):
    assert_same(*both_ways(planted(num=26, largest=1), settings(), monkeypatch))


def test_models_that_are_done_are_reported(planted):
    bags, training, done = planted(num=26), settings(), []
    splits = plan_splits(bags, SPLIT, training)
    cross_validate(
        bags, splits, training, CPU, on_fold=lambda d, total: done.append((d, total))
    )
    assert done[-1] == (8, 8) and done == sorted(done)


def test_a_loss_that_is_not_finite_ends_training(planted):
    training = settings(optimiser={"name": "sgd", "lr": 1e30})
    bags = planted(num=26)
    with pytest.raises(InputError, match=r"diverged in epoch \d.*lower optimiser.lr"):
        cross_validate(bags, plan_splits(bags, SPLIT, training), training, CPU)


@pytest.mark.parametrize(
    ("keys", "num", "device"),
    [
        ({}, 1, "cpu"),
        ({}, 8, "cuda"),
        ({"batch_size": 500}, 8, "cpu"),
    ],
)
def test_what_is_trained_one_by_one(planted, keys, num, device):
    bags, before = planted(num=26), torch.random.get_rng_state()
    assert can_train_together(bags, settings(), 8, CPU)
    assert torch.equal(before, torch.random.get_rng_state())
    training = settings(**keys)
    assert not can_train_together(bags, training, num, torch.device(device))


def test_sets_that_would_fill_memory_are_trained_one_by_one(planted):
    bags = planted(num=26)
    rows = bags.features.offsets[-1]
    wide = np.broadcast_to(np.zeros((1, 1), np.float32), (rows, 1 << 20))
    features = dataclasses.replace(bags.features, values=wide)
    big = dataclasses.replace(bags, features=features)
    assert not can_train_together(big, settings(hidden=[]), 8, CPU)
