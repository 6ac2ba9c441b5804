"""Configs trained in one stack equal those trained one by one."""

import numpy as np
import pytest
import torch

from mshisto_ray import components, config
from mshisto_ray.config import InputError
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.mil.fit import cross_validation
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.pack import can_pack, cross_validate_pack, shape_of
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.mil.model import POOLINGS

CPU = torch.device("cpu")
SPLIT = SplitConfig(folds=3, repeats=2, validation=0.25)
BASE = {"hidden": [12], "dropout": 0.5, "epochs": 4, "batch_size": 2}
SGD = {"name": "sgd", "lr": 0.01, "weight_decay": 0.01}
# Of one shape: noises, rates, decay, seeds and patience differ.
OTHERS = [
    {"noise": {"name": "gaussian", "sigma": 0.1}, "optimiser": SGD},
    {"noise": {"name": "gaussian", "sigma": 0.5}, "optimiser": SGD | {"lr": 0.1}},
    {"noise": {"name": "feature_dropout", "sigma": 0.3}, "optimiser": SGD},
    {"seed": 3, "optimiser": SGD | {"weight_decay": 0}, "early_stopping": None},
    {"optimiser": SGD | {"lr": 0.1}, "early_stopping": {"patience": 1}},
]


def made(**keys):
    return [config.validate(TrainConfig, BASE | keys | other) for other in OTHERS]


def packed(bags, configs, splits):
    assert len({shape_of(c) for c in configs}) == 1
    assert all(can_pack(bags, c, len(splits)) for c in configs)
    found = dict(cross_validate_pack(bags, splits, configs, [False] * len(configs)))
    assert sorted(found) == list(range(len(configs)))
    return [found[place] for place in sorted(found)]


def assert_same(one, other, atol=1e-5):
    for ours, theirs in zip(one.models, other.models, strict=True):
        assert ours.epochs == theirs.epochs
        assert len(ours.history) == len(theirs.history)
        for key, value in ours.model.state_dict().items():
            wanted = theirs.model.state_dict()[key]
            torch.testing.assert_close(value, wanted, rtol=1e-4, atol=atol)
    for part in ("test", "validation"):
        values = [getattr(x, part).probabilities for x in (one, other)]
        np.testing.assert_allclose(*values, atol=atol)


@pytest.mark.parametrize("name", components.available(POOLINGS))
def test_a_pack_equals_separate_training(planted, name, monkeypatch):
    bags, configs = planted(num=24), made(pooling={"name": name})
    splits = plan_splits(bags, SPLIT, configs[0])
    if not can_pack(bags, configs[0], len(splits)):
        return
    together = packed(bags, configs, splits)
    monkeypatch.setattr(cross_validation, "can_train_together", lambda *_: False)
    for training, found in zip(configs, together, strict=True):
        assert_same(found, cross_validate(bags, splits, training, CPU))


@pytest.mark.parametrize(
    "keys",
    [{"vote": {"bags": 3, "size": 2}}, {"tiles_per_epoch": 2}, {"draws": "balanced"}],
    ids=str,
)
def test_a_pack_of_random_bags_equals_separate_training(planted, keys, monkeypatch):
    bags, configs = planted(num=24, classes=3), made(**keys)
    splits = plan_splits(bags, SPLIT, configs[0])
    together = packed(bags, configs, splits)
    monkeypatch.setattr(cross_validation, "can_train_together", lambda *_: False)
    for training, found in zip(configs, together, strict=True):
        assert_same(found, cross_validate(bags, splits, training, CPU))


@pytest.mark.parametrize("size", [1, 2])
def test_the_others_of_a_pack_change_nothing_at_all(planted, size):
    """So a sweep that is resumed, with fewer configs left, has the same results."""
    bags, configs = planted(num=24), made(batch_size=size)
    splits = plan_splits(bags, SPLIT, configs[0])
    whole = packed(bags, configs, splits)
    for place in (1, 3):
        (alone,) = packed(bags, configs[place : place + 1], splits)
        for one, other in zip(whole[place].models, alone.models, strict=True):
            pairs = one.model.state_dict().items(), other.model.state_dict().values()
            assert all(torch.equal(v, w) for (_, v), w in zip(*pairs, strict=True))


def test_a_config_that_diverges_ends_alone_with_its_error(planted):
    bags, configs = planted(num=24), made()
    bad = configs[1].optimiser.model_copy(update={"lr": 1e30})
    configs[1] = configs[1].model_copy(update={"optimiser": bad})
    splits = plan_splits(bags, SPLIT, configs[0])
    found = packed(bags, configs, splits)
    assert isinstance(found[1], InputError) and "diverged in epoch" in str(found[1])
    with pytest.raises(InputError, match="diverged in epoch") as error:
        cross_validate(bags, splits, configs[1], CPU)
    assert str(error.value) == str(found[1])
    alone = cross_validate(bags, splits, configs[0], CPU)
    assert_same(found[0], alone)


def test_configs_of_other_shapes_are_told_apart():
    base = config.validate(TrainConfig, BASE)
    for keys in (
        {"hidden": [13]}, {"pooling": {"name": "attention"}}, {"epochs": 5},
        {"dropout": 0.25}, {"batch_size": 1}, {"optimiser": {"name": "adamw"}},
        {"reduction": {"name": "pca", "dim": 2}}, {"vote": {"bags": 3, "size": 2}},
    ):  # fmt: skip
        assert shape_of(config.validate(TrainConfig, BASE | keys)) != shape_of(base)
