import dataclasses

import numpy as np
import pytest
import torch

from mshisto_ray.jobs.benchmarks import _mil_folds, mil
from mshisto_ray.jobs.benchmarks._mil_ways import Ours, Plain

CPU = torch.device("cpu")


def test_both_ways_train_the_same_bags(tmp_path, monkeypatch):
    cases = [
        dataclasses.replace(
            case, bags=6, dim=12, sizes=lambda rng, num: rng.integers(2, 9, num)
        )
        for case in mil._CASES
    ]
    monkeypatch.setattr(mil, "_CASES", cases)
    monkeypatch.setattr(_mil_folds, "_MUSK1", {1: 8, 2: 6, 4: 6})
    monkeypatch.setattr(_mil_folds, "_EPOCHS", 1)
    threads = torch.get_num_threads()
    found = mil.build(repeats=2)(tmp_path)
    assert torch.get_num_threads() == threads
    keys = (
        "bags_per_s ratio tidy_ratio "
        "test_auroc test_auroc_gain_low test_auroc_gain_high"
    )
    names = {f"mil.{case.name}.{key}" for case in cases for key in keys.split()}
    of_folds = ("of_one", "validated", "ratio", "plain_ratio")
    assert set(found) == names | {f"mil.ten_folds.{key}" for key in of_folds}
    assert all(found[f"mil.ten_folds.{key}"].value > 0 for key in of_folds)
    for case in cases:
        rate = found[f"mil.{case.name}.bags_per_s"]
        assert rate.value > 0 and rate.baseline > 0
        assert found[f"mil.{case.name}.ratio"].target == case.target


@pytest.mark.parametrize("tidy", [False, True])
def test_plain_and_ragged_models_are_the_same_function(tidy):
    """So that times are comparable: one bag per step, equal weights, equal logits."""
    case = dataclasses.replace(mil._CASES[0], bags=4, dim=12)
    bags = mil._make_bags(case)
    train = np.arange(0, 8, 2)
    ours, plain = Ours(bags, train, 1, 1e-3, CPU), Plain(bags, train, CPU, tidy)
    pooling = ours._model.pooling
    for target, source in (
        (plain._score[0], pooling.tanh),
        (plain._score[2], pooling.score),
        (plain._classify, pooling.classifier),
    ):
        target.load_state_dict(source.state_dict())
    both = [way.probabilities(train + 1) for way in (ours, plain)]
    np.testing.assert_allclose(*both, rtol=1e-5)
    for bag in range(8):
        out = ours._model(*ours._batches.get([bag])).log_probabilities[0]
        torch.testing.assert_close(out[1] - out[0], plain._logit(bag))
