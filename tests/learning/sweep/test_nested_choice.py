import numpy as np

from mshisto_ray.learning.intervals import intervals
from mshisto_ray.learning.predictions import Predictions, concatenate
from mshisto_ray.learning.sweep.nested_choice import choose_within_folds


def made(target, given, fold, repeat):
    names = np.array([f"b{i}" for i in range(len(target))], dtype=object)
    return Predictions(
        ("n", "p"), names, np.full(len(target), None, dtype=object), names,
        target, np.full(len(target), fold), np.full(len(target), repeat),
        np.stack([1 - given, given], 1),
    )  # fmt: skip


def test_every_fold_takes_the_config_that_is_best_on_its_own_validation():
    rng = np.random.default_rng(0)
    validation, test = {"a": [], "b": []}, {"a": [], "b": []}
    for repeat in range(2):
        for fold in range(3):
            good = "ab"[(fold + repeat) % 2]
            for name in "ab":
                target = np.arange(12) % 2
                given = rng.random(12)
                if name == good:
                    given = 0.4 * given + 0.6 * target
                validation[name].append(made(target, given, fold, repeat))
                test[name].append(made(target, rng.random(12), fold, repeat))
    tables = [{k: concatenate(v) for k, v in x.items()} for x in (validation, test)]
    found = choose_within_folds(*tables, "auroc")
    wanted = concatenate(
        [test["ab"[(fold + repeat) % 2]][3 * repeat + fold]
         for repeat in range(2) for fold in range(3)]
    )  # fmt: skip
    assert found.value == intervals(wanted)["auroc"]
    assert found.num_configs == 2


def test_a_config_without_a_validation_metric_is_not_chosen():
    one, both = np.zeros(6, int), np.arange(6) % 2
    value = np.linspace(0, 1, 6)
    validation = {"a": made(one, value, 0, 0), "b": made(both, 1 - value, 0, 0)}
    test = {"a": made(both, value, 0, 0), "b": made(both, value / 2, 0, 0)}
    found = choose_within_folds(validation, test, "auroc")
    assert found.value == intervals(test["b"])["auroc"]
