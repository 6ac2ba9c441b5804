"""A tile head trained again: on redrawn patients, fewer of them, exchanged classes."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from fixtures.tile_samples import planted

from mshisto_ray import config as configs
from mshisto_ray.learning.intervals import estimate
from mshisto_ray.learning.predictions import concatenate, read_predictions
from mshisto_ray.learning.retraining.learning_curve import (
    read_curve,
    run_size,
    write_patients,
)
from mshisto_ray.learning.retraining.permuted import (
    missing_permutations,
    permuted,
    read_permuted,
    run_permutation,
)
from mshisto_ray.learning.retraining.refits import (
    draw_refits,
    num_refits,
    refit_interval,
    run_refits,
)
from mshisto_ray.learning.sweep.nested_choice import fold_scores
from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.tile_classification.head.experiment import TileExperiment
from mshisto_ray.tile_classification.head.fit import predict_tiles
from mshisto_ray.tile_classification.head.preparation import (
    fit_preparation,
    group_moments,
)
from mshisto_ray.tile_classification.head.run import fit_folds

METRIC = "balanced_accuracy"


def config_of(**keys):
    raw = {
        "embeddings": "none",
        "split": {"folds": 3, "validation": 0.3},
        "epochs": 3,
        "batch_size": 32,
        "lr": 0.02,
        "runtime": {"cache": {"max_gib": 0}},
    }
    return configs.validate(TileExperiment, raw | keys)


def test_patients_are_redrawn_whole_and_weigh_as_often_as_they_are_drawn():
    samples, config = planted(slides=9), config_of()
    splits, most = draw_refits(config.rows(samples), config.split, 4), []
    for split in splits:
        sizes = np.bincount(samples.group[split.train], minlength=9)
        assert (sizes % 30 == 0).all()
        most.append(sizes.max())
        parts = [set(samples.group[i]) for i in (split.train, split.validation)]
        assert not parts[0] & parts[1]
        tested = set(samples.group[split.test])
        assert tested == set(range(9)) - parts[0] - parts[1]
        train = np.sort(split.train)
        found = fit_preparation(samples, group_moments(samples), train, config)
        values = samples.read(train).astype(float)
        np.testing.assert_allclose(found.mean, values.mean(0), rtol=1e-5)
        np.testing.assert_allclose(found.std, values.std(0), rtol=1e-4)
    assert max(most) > 30


def test_refits_choose_and_test_as_the_sweep_does(tmp_path):
    samples, folders = planted(slides=16, per_slide=12, seed=3), {}
    configs_of = {"plain": config_of(), "wide": config_of(hidden=[4])}
    for name, config in configs_of.items():
        folders[name] = tmp_path / name
        folders[name].mkdir()
        run_refits(folders[name], samples, config, 5)
        assert num_refits(folders[name]) == 5
        # Written model by model, so that no more than one waits in memory.
        with pq.ParquetFile(folders[name] / "refits_test.parquet") as file:
            assert file.num_row_groups == 5
    config = configs_of["plain"]
    held = Interval(0.9, 0.8, 0.95)
    found = refit_interval(folders, held, METRIC, config.kind)

    def read(name, part):
        file = folders[name] / f"refits_{part}.parquet"
        return replace(read_predictions(file), kind=config.kind)

    scores = {name: fold_scores(read(name, "validation"), METRIC) for name in folders}
    values = []
    for fold in range(5):
        best = max(folders, key=lambda name, fold=fold: scores[name][0, fold])
        test = read(best, "test")
        values.append(estimate(test.take(test.fold == fold)).values[METRIC])
    assert found.num == 5 and found.variance.mean == pytest.approx(np.mean(values))
    assert found.interval.low <= 0.8 and found.interval.high >= 0.95
    # What is read again are the probabilities of the models.
    split, model = next(
        fit_folds(samples, draw_refits(config.rows(samples), config.split, 1),
                  config, torch.device("cpu"))
    )  # fmt: skip
    test, rows = read("plain", "test"), np.sort(split.test)
    own = test.take(test.fold == 0)
    given = predict_tiles(samples, model.model, model.prepare, rows)
    np.testing.assert_allclose(own.probabilities, given, atol=1e-6)
    assert own.bag[0] == f"s{samples.slide[rows[0]]} 0 0"


def by_patient(samples):
    return [tuple(samples.target[samples.group == g]) for g in range(9)]


def test_patients_of_one_class_exchange_it():
    one = planted(slides=9)
    one = replace(one, target=(one.group % 3 == 0).astype(int))
    for number in range(5):
        exchanged, splits = permuted(one, config_of(), number)
        found = by_patient(exchanged)
        assert all(len(set(own)) == 1 for own in found)
        assert sum(own[0] for own in found) == 3
        tested = np.concatenate([split.test for split in splits])
        assert sorted(tested) == list(range(len(one)))


def test_a_permutation_is_trained_as_the_sweep_trains(tmp_path):
    samples, config = planted(slides=9), config_of()
    run_permutation(tmp_path, samples, config, METRIC, 0)
    exchanged, splits = permuted(samples, config, 0)
    assert (exchanged.target != samples.target).any()
    each = config.held_out(exchanged, splits)
    test, validation = (concatenate(parts) for parts in zip(*each, strict=True))
    found = json.loads((tmp_path / "permuted" / f"{METRIC}-0.json").read_text())
    for part, predictions in (("val", validation), ("test", test)):
        value = estimate(predictions).values[METRIC]
        assert found[part] == pytest.approx(value)
    assert missing_permutations(tmp_path, METRIC, 2) == [1]
    assert read_permuted({"one": tmp_path}, 0.9, METRIC, 1, config).p in (0.5, 1)


def test_the_curve_of_a_tile_head(tmp_path):
    samples, config = planted(slides=9), config_of()
    splits, sizes = config.plan(samples), (0.4, 0.7)
    config.train(samples, tmp_path / "result", lambda done, total: None)
    folder = tmp_path / "result"
    write_patients(folder, config.rows(samples), splits, 0, sizes)
    for size in sizes:
        run_size(folder, samples, splits, config, size)
    curve = read_curve(folder, sizes, METRIC, config)
    assert curve.patients[-1] == 6 and len(curve.values) == 3
    whole = estimate(config.read_test(folder)).values[METRIC]
    assert curve.values[-1].value == pytest.approx(whole)


def test_models_report_what_they_have_on_validation(tmp_path):
    samples, config = planted(slides=9), config_of()
    seen, done = [], []
    config.train(
        samples, tmp_path / "result", lambda num, total: done.append(num),
        lambda validation: seen.append((len(done), validation)), [1],
    )  # fmt: skip
    whole = config.read_validation(tmp_path / "result")
    assert [num for num, _ in seen] == [0, 1, 2]
    scores = fold_scores(whole, METRIC)
    for fold, (_, part) in enumerate(seen):
        assert fold_scores(part, METRIC) == {(0, fold): scores[0, fold]}
