"""Refits of a config: who trains, who is tested, what is chosen."""

from dataclasses import replace

import numpy as np
import pytest

from mshisto_ray import config as configs
from mshisto_ray.learning.estimates import Estimates
from mshisto_ray.learning.predictions import read_predictions
from mshisto_ray.learning.retraining.refits import (
    about_refits,
    draw_refits,
    num_refits,
    refit_interval,
    run_refits,
)
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.learning.target_split import GroupedSplitConfig
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.statistics.bootstrap import Interval

SPLIT = SplitConfig()


def test_patients_are_drawn_with_replacement_and_the_others_tested(planted):
    bags = planted(num=60, per_patient=2, empty=(7,))
    owner = np.array(bags.patient_ids)
    shares = []
    for number, split in enumerate(draw_refits(bags.rows(SPLIT), SPLIT, 20)):
        parts = [set(owner[i]) for i in (split.train, split.validation, split.test)]
        assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
        assert split.fold == number and split.repeat == 0
        used = np.concatenate([split.train, split.validation, split.test])
        assert set(used) == set(np.flatnonzero(bags.sizes > 0))
        assert len(set(split.validation)) == len(split.validation)
        counts = np.bincount(split.train, minlength=60).reshape(30, 2)
        both = bags.sizes.reshape(30, 2) > 0
        rows = both.all(1)
        assert (counts[rows, 0] == counts[rows, 1]).all()  # all of a patient, as often
        shares.append(len(parts[2]) / 30)
    assert max(np.bincount(split.train)) > 1
    assert np.mean(shares) == pytest.approx((1 - 1 / 30) ** 30, abs=0.05)
    again, more = (draw_refits(bags.rows(SPLIT), SPLIT, n)[2] for n in (3, 20))
    np.testing.assert_array_equal(again.train, more.train)


def test_groups_are_drawn_whole(planted):
    bags = planted(num=60)
    bags = replace(bags, groups=tuple(f"s{i // 2 % 10}" for i in range(60)))
    site = np.array(bags.groups)
    grouped = GroupedSplitConfig(group="site")
    for split in draw_refits(bags.rows(grouped), grouped, 5):
        assert not set(site[split.test]) & set(site[split.train])
        assert not set(site[split.validation]) & set(site[split.train])


def test_each_refit_chooses_and_is_tested_on_those_left_out(planted, tmp_path):
    bags = planted(num=48)
    folders = {}
    for name in ("embedding_mean", "embedding_max"):
        keys = {
            "bags": "none.parquet",
            "pooling": {"name": name},
            "hidden": [],
            "epochs": 6,
        }
        keys |= {"early_stopping": None, "optimiser": {"lr": 0.05}}
        folders[name] = tmp_path / name
        folders[name].mkdir()
        assert num_refits(folders[name]) == 0
        config = configs.validate(ExperimentConfig, keys)
        run_refits(folders[name], bags, config, 6)
        assert num_refits(folders[name]) == 6
    held = Interval(0.9, 0.8, 0.95)
    found = refit_interval(folders, held, "auroc", bags.kind)
    tests = {n: read_predictions(p / "refits_test.parquet") for n, p in folders.items()}
    inner = {
        n: read_predictions(p / "refits_validation.parquet") for n, p in folders.items()
    }
    values, names = [], []
    for number in range(6):

        def auroc(of, name, number=number):
            part = of[name].take(of[name].fold == number)
            return Estimates(part).values["auroc"]

        best = max(folders, key=lambda name: auroc(inner, name))
        names.append(best)
        values.append(auroc(tests, best))
    assert found.variance.mean == pytest.approx(np.mean(values))
    assert found.num == 6 and found.num_configs == len(set(names))
    assert found.interval.low <= 0.8 and found.interval.high >= 0.95
    assert "6 redraws" in about_refits(found, "auroc")
    assert (
        refit_interval({**folders, "none": tmp_path}, held, "auroc", bags.kind) is None
    )


def test_other_targets_have_refits_too(planted, tmp_path):
    bags = planted(num=40)
    kind = TargetConfig(kind="regression", column="age").build()
    ages = bags.targets * 10 + np.random.default_rng(0).normal(size=40)
    bags = replace(bags, kind=kind, targets=ages, classes=("age",))
    keys = {
        "bags": "none.parquet",
        "pooling": {"name": "embedding_max"},
        "hidden": [],
        "epochs": 5,
    }
    config = configs.validate(ExperimentConfig, keys | {"optimiser": {"lr": 0.05}})
    run_refits(tmp_path, bags, config, 3)
    found = refit_interval({"one": tmp_path}, Interval(0.5, 0.2, 0.7), "r2", kind)
    assert found.variance.factor >= 1 and found.num_configs == 1
