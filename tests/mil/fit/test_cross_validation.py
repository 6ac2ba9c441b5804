import numpy as np
import pytest
import torch

from mshisto_ray import config
from mshisto_ray.config import InputError
from mshisto_ray.learning.intervals import intervals
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.fold_model import seeds_of
from mshisto_ray.mil.fit.splits import plan_splits

CPU = torch.device("cpu")


def settings(**keys):
    quick = {"hidden": [8], "epochs": 2, "early_stopping": None}
    return config.validate(TrainConfig, quick | keys)


def run(bags, split, training, **keys):
    return cross_validate(
        bags, plan_splits(bags, split, training), training, CPU, **keys
    )


def test_every_bag_is_predicted_once_a_repeat_by_a_model_blind_to_its_patient(planted):
    bags = planted(num=60, per_patient=2)
    split = SplitConfig(folds=3, repeats=2)
    done = []
    result = run(bags, split, settings(), on_fold=lambda d, t: done.append((d, t)))
    assert done[-1] == (6, 6)
    test = result.test
    for repeat in range(2):
        assert sorted(test.bag[test.repeat == repeat]) == sorted(bags.names)
    for s in result.splits:
        rows = (test.repeat == s.repeat) & (test.fold == s.fold)
        learned = {bags.patient_ids[i] for i in np.concatenate([s.train, s.validation])}
        assert not learned & set(test.patient_id[rows])
    np.testing.assert_allclose(test.probabilities.sum(1), 1)
    inner = result.validation
    assert len(inner) == sum(len(s.validation) for s in result.splits)
    target = dict(zip(bags.names, bags.targets, strict=True))
    assert [target[bag] for bag in test.bag] == test.target.tolist()


def test_a_planted_signal_is_found_and_shuffled_labels_are_not(planted):
    training = settings(epochs=10, optimiser={"lr": 0.02}, hidden=[16], dropout=0)
    bags = planted(num=80)
    found = intervals(run(bags, SplitConfig(folds=4), training).test)
    assert found["auroc"].low > 0.8
    rng = np.random.default_rng(0)
    values = rng.normal(size=bags.features.values.shape).astype(np.float32)
    bags.features.values[:] = values
    chance = intervals(run(bags, SplitConfig(folds=4), training).test)
    assert chance["auroc"].low < 0.5 < chance["auroc"].high + 0.1


def test_without_validation_all_of_the_training_fold_is_learned(planted):
    result = run(planted(), SplitConfig(folds=4, validation=0), settings())
    assert result.validation is None
    assert all(len(s.train) == 30 for s in result.splits)


def test_results_are_the_same_every_time(planted):
    bags = planted()
    keys = {"noise": {"name": "gaussian", "sigma": 0.2}, "early_stopping": {}}
    first = run(bags, SplitConfig(folds=3), settings(**keys))
    second = run(bags, SplitConfig(folds=3), settings(**keys))
    np.testing.assert_array_equal(
        first.test.probabilities, second.test.probabilities
    )  # fmt: skip


def test_embeddings_that_are_not_finite_are_named_before_training(planted):
    bags = planted(num=40)
    bags.features.values[bags.features.offsets[7], 2] = np.nan
    with pytest.raises(InputError, match="slide 'b7' has values that are not finite"):
        run(bags, SplitConfig(folds=4), settings())


def test_bags_without_instances_keep_the_folds_of_the_others(planted):
    whole, lacking = planted(num=40), planted(num=40, empty=(3, 8))
    split = SplitConfig(folds=4)
    some = plan_splits(lacking, split, settings())
    for s, t in zip(plan_splits(whole, split, settings()), some, strict=True):
        for part in ("train", "validation", "test"):
            assert set(getattr(t, part)) == set(getattr(s, part)) - {3, 8}
    result = cross_validate(lacking, some, settings(), CPU)
    assert sorted(result.test.bag) == sorted(set(lacking.names) - {"b3", "b8"})


def test_a_fold_without_any_test_bag_is_refused_before_training(planted):
    folds = tuple("xyz"[i // 2 % 3] for i in range(30))
    empty = [i for i in range(30) if folds[i] == "x"]
    bags = planted(num=30, folds=folds, empty=empty)
    with pytest.raises(InputError, match="fold 0 of repeat 0 has no test bag"):
        plan_splits(bags, SplitConfig(validation=0), settings())


def test_refit_has_random_numbers_of_its_own():
    streams = [(repeat, fold) for repeat in range(3) for fold in range(3)]
    found = {seeds_of(0, stream) for stream in (*streams, (0, 0, 1))}
    assert len(found) == 10


def test_refit_learns_from_all_bags_for_the_median_epochs(planted):
    bags = planted(num=60)
    training = settings(epochs=20, early_stopping={"patience": 2})
    result = run(bags, SplitConfig(folds=3), training, refit=True)
    assert result.refit.epochs == int(np.median([m.epochs for m in result.models]))
    rows = bags.features.values
    np.testing.assert_allclose(result.refit.standardisation.mean, rows.mean(0), 1e-4)


def test_given_folds_are_used(planted):
    folds = tuple("xyzz"[i // 2 % 4] for i in range(40))
    bags = planted(num=40, folds=folds)
    result = run(bags, SplitConfig(folds=7, validation=0), settings())
    assert len(result.models) == 3
    assert [folds[i] for i in result.splits[0].test] == ["x"] * 10


@pytest.mark.parametrize(
    ("split", "training", "keys", "message"),
    [
        ({"validation": 0}, {"early_stopping": {}}, {}, "split.validation is 0, and"),
        ({"folds": 6}, {}, {"num": 10}, r"'a' has 5 patients, fewer than split\.folds"),
        (
            {"folds": 2},
            {},
            {"num": 6, "empty": (0, 2, 4)},
            "class 'a' has no bag with instances in the training part of fold 0",
        ),
        (
            {"folds": 2, "validation": 0.1},
            {"early_stopping": {"metric": "auroc"}},
            {"num": 8, "empty": (0, 2, 4)},
            "early_stopping.metric=loss|target.classes",
        ),
    ],
)
def test_splits_that_cannot_be_trained_are_refused(
    planted, split, training, keys, message
):
    bags = planted(**keys)
    with pytest.raises(InputError, match=message):
        plan_splits(bags, SplitConfig(**split), settings(**training))
