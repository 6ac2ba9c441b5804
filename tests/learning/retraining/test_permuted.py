"""The choice of a sweep on exchanged labels."""

import json

import numpy as np
import pytest
import torch

from mshisto_ray import config as configs
from mshisto_ray.learning.estimates import Estimates
from mshisto_ray.learning.retraining.permuted import (
    missing_permutations,
    permuted,
    read_permuted,
    run_permutation,
)
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.reporting.learning_curve import about_permuted, rerun_sections


def config_of(**keys):
    raw = {
        "bags": "bags.parquet",
        "pooling": {"name": "embedding_mean"},
        "hidden": [],
        "epochs": 2,
        "batch_size": 8,
        "early_stopping": None,
        "split": {"folds": 3},
        **keys,
    }
    return configs.validate(ExperimentConfig, raw)


def test_patients_exchange_labels_and_folds_are_drawn_for_them(planted):
    bags = planted(num=60, per_patient=2)
    seen = set()
    for number in range(5):
        exchanged, splits = permuted(bags, config_of(), number)
        assert exchanged.targets is not None
        pairs = exchanged.targets.reshape(30, 2)
        assert (pairs[:, 0] == pairs[:, 1]).all()
        assert pairs.sum() == np.sum(bags.targets)
        seen.add(tuple(pairs[:, 0]))
        tested = np.concatenate([split.test for split in splits])
        assert sorted(tested) == list(range(60))
        rates = [exchanged.targets[split.test].mean() for split in splits]
        assert np.ptp(rates) < 0.15
    assert len(seen) == 5
    other = config_of(pooling={"name": "embedding_max"})
    again = permuted(bags, other, 3)[0].targets
    np.testing.assert_array_equal(again, permuted(bags, config_of(), 3)[0].targets)


def test_the_metric_of_a_permutation_is_that_of_training_on_it(planted, tmp_path):
    bags = planted(num=36)
    config = config_of()
    assert missing_permutations(tmp_path, "auroc", 2) == [0, 1]
    run_permutation(tmp_path, bags, config, "auroc", 1)
    assert missing_permutations(tmp_path, "auroc", 2) == [0]
    exchanged, splits = permuted(bags, config, 1)
    result = cross_validate(exchanged, splits, config, torch.device("cpu"))
    found = json.loads((tmp_path / "permuted" / "auroc-1.json").read_text())
    assert result.validation is not None
    for part, predictions in (("val", result.validation), ("test", result.test)):
        assert found[part] == pytest.approx(Estimates(predictions).values["auroc"])


def write(folder, pairs, metric="auroc"):
    (folder / "permuted").mkdir(parents=True)
    for number, (val, test) in enumerate(pairs):
        path = folder / "permuted" / f"{metric}-{number}.json"
        path.write_text(json.dumps({"val": val, "test": test}))


def test_the_best_on_validation_is_chosen_in_each(tmp_path):
    folders = {name: tmp_path / name for name in "ab"}
    write(folders["a"], [(0.6, 0.5), (0.4, 0.9), (None, 0.1), (0.5, 0.7)])
    write(folders["b"], [(0.5, 0.8), (0.6, 0.4), (0.2, 0.6), (0.5, 0.2)])
    found = read_permuted(folders, 0.65, "auroc", 4, config_of())
    assert found is not None and found.permuted == (0.5, 0.4, 0.6, 0.7)
    assert found.p == pytest.approx((1 + 1) / (1 + 4))
    assert "p = 0.400" in about_permuted(found)
    assert "## Permuted labels" in rerun_sections(None, found)
    assert read_permuted(folders, 0.65, "auroc", 5, config_of()) is None
    # Of an error less is better, on validation and against chance.
    write(tmp_path / "c", [(3.0, 9.0), (4.0, 8.0)], "mae")
    write(tmp_path / "d", [(2.0, 7.0), (5.0, 1.0)], "mae")
    pair = {name: tmp_path / name for name in "cd"}
    ages = config_of(target={"kind": "regression", "column": "age"})
    found = read_permuted(pair, 7.5, "mae", 2, ages)
    assert found is not None and found.permuted == (7.0, 8.0)
    assert found.p == pytest.approx(2 / 3)
