"""Noises and reductions are fitted on the training fold alone, whatever they are."""

import dataclasses

import numpy as np
import pytest
import torch
from fixtures.parts import checked, examples

from mshisto_ray import config
from mshisto_ray.config import InputError
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.mil.fit import cross_validation
from mshisto_ray.mil.fit.config import NOISES, REDUCTIONS, TrainConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.fold import fit_fold
from mshisto_ray.mil.fit.fold_model import FoldTask
from mshisto_ray.mil.fit.preparation import (
    check_representation,
    fit_preparation,
)
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.mil.fit.standardisation import slide_moments
from mshisto_ray.mil.fit.together import can_train_together
from mshisto_ray.mil.head import load_head
from mshisto_ray.mil.trained_head import save_head
from mshisto_ray.representation.differences import write_differences

CPU = torch.device("cpu")
TRAIN = np.arange(0, 12)
QUICK = {
    "hidden": [5],
    "dropout": 0,
    "epochs": 2,
    "early_stopping": None,
    "optimiser": {"name": "sgd", "lr": 0.01},
}


def settings(**keys):
    return config.validate(TrainConfig, QUICK | keys)


def as_key(family, part, folder):
    return checked(family, part, folder).model_dump(mode="json")


def reduction_of(part, folder):
    found = as_key(REDUCTIONS, part, folder)
    return {**found, "dim": 1} if found.get("dim", 0) else found


def changed(bags, index):
    """The same bags with other values in those at ``index``."""
    values = bags.features.values.copy()
    for member in (m for i in index for m in bags.members[i]):
        start, stop = bags.features.offsets[member : member + 2]
        values[start:stop] = values[start:stop] * 50 + 7
    features = dataclasses.replace(bags.features, values=values)
    return dataclasses.replace(bags, features=features)


def trained(bags, training):
    prepare = fit_preparation(bags, slide_moments(bags), TRAIN, training)
    model = fit_fold(
        bags, FoldTask(prepare, TRAIN, TRAIN[:0], (0, 0), 9), training, CPU
    )
    return {
        **model.model.state_dict(),
        **(prepare.reduced.state if prepare.reduced else {}),
    }


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("part", examples(NOISES))
def test_no_noise_sees_a_tile_outside_its_fold(planted, part, tmp_path):
    bags, training = planted(num=18), settings(noise=as_key(NOISES, part, tmp_path))
    first = trained(bags, training)
    assert same(first, trained(changed(bags, range(12, 18)), training))
    assert not same(first, trained(changed(bags, range(3)), training))
    assert not same(first, trained(bags, settings())), "the noise does something"


@pytest.mark.parametrize("part", examples(REDUCTIONS))
def test_no_reduction_sees_a_tile_outside_its_fold(planted, part, tmp_path):
    bags = planted(num=18, classes=3)
    training = settings(reduction=reduction_of(part, tmp_path))
    first = trained(bags, training)
    assert same(first, trained(changed(bags, range(12, 18)), training))
    assert not same(first, trained(changed(bags, range(3)), training))


@pytest.mark.parametrize("part", examples(NOISES))
def test_every_noise_trains_many_models_as_one_by_one(
    planted, part, tmp_path, monkeypatch
):
    bags, training = planted(num=18), settings(noise=as_key(NOISES, part, tmp_path))
    splits = plan_splits(bags, SplitConfig(folds=2, validation=0), training)
    together = cross_validate(bags, splits, training, CPU)
    monkeypatch.setattr(cross_validation, "can_train_together", lambda *_: False)
    apart = cross_validate(bags, splits, training, CPU)
    np.testing.assert_allclose(
        together.test.probabilities, apart.test.probabilities, atol=1e-4
    )


@pytest.mark.parametrize("name", ["pca", "lda", "isomap"])
def test_a_head_keeps_its_reduction(planted, name, tmp_path):
    bags, training = planted(num=18), settings(reduction={"name": name, "dim": 1})
    splits = plan_splits(bags, SplitConfig(folds=2, validation=0), training)
    result = cross_validate(bags, splits, training, CPU)
    save_head(tmp_path / "head", result, bags, training, {})
    loaded = load_head(tmp_path / "head").models[1]
    rows = torch.from_numpy(bags.features.values)
    wanted = result.models[1].standardisation(rows)
    assert wanted.shape == (len(rows), 1)
    torch.testing.assert_close(loaded.standardisation(rows), wanted)


def test_what_does_not_suit_the_embeddings_is_refused_before_work(planted):
    bags = planted(num=18)
    with pytest.raises(InputError, match="pca to 256 needs at least as many features"):
        check_representation(bags, settings(reduction={"name": "pca"}))
    noise = {"name": "per_view", "sigma": [0.1, 0.2]}
    with pytest.raises(InputError, match="2 strengths for 1 view"):
        check_representation(bags, settings(noise=noise))


def test_differences_of_held_out_slides_alone_are_refused_before_work(
    planted, tmp_path
):
    bags, path = planted(num=18), tmp_path / "d.safetensors"
    slide = bags.features.slide_ids[bags.members[0][0]]
    values = np.random.default_rng(0).normal(size=(20, bags.features.dim))
    write_differences(path, values, np.array([slide] * 20), {})
    noise = {"name": "augmentation", "path": str(path), "sigma": 0.3}
    folds = SplitConfig(folds=2, validation=0)
    with pytest.raises(InputError, match="make it from tiles of more slides"):
        plan_splits(bags, folds, settings(noise=noise))
    plan_splits(bags, folds, settings(noise=noise | {"sigma": 0}))


def test_mixup_trains_each_fold_by_itself_and_by_its_seed(planted):
    bags, training = planted(num=18), settings(mixup=0.3, batch_size=4)
    splits = plan_splits(bags, SplitConfig(folds=2, validation=0), training)
    assert not can_train_together(bags, training, 2, CPU)
    one, two = (cross_validate(bags, splits, training, CPU) for _ in range(2))
    plain = cross_validate(bags, splits, settings(batch_size=4), CPU)
    for first, second, other in zip(one.models, two.models, plain.models, strict=True):
        found, again, without = (
            torch.cat([p.flatten() for p in m.model.parameters()])
            for m in (first, second, other)
        )
        assert torch.equal(found, again) and not torch.equal(found, without)


def test_mixup_is_refused_where_it_cannot_be(planted):
    with pytest.raises(InputError, match="batch_size of 2"):
        settings(mixup=0.3, batch_size=1)
    with pytest.raises(InputError, match="combine=single"):
        settings(mixup=0.3, batch_size=4, combine="concat")
    bags = planted(num=18)
    number = dataclasses.replace(
        bags, kind=TargetConfig(kind="regression", column="x").build()
    )
    with pytest.raises(InputError, match="mixup: mixes classes"):
        check_representation(number, settings(mixup=0.3, batch_size=4))
