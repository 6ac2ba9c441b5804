"""Tile heads: what is learned, and that nothing outside the training fold is seen."""

import dataclasses

import numpy as np
import pytest
import torch
from fixtures.parts import checked, examples
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.representation.differences import write_differences
from mshisto_ray.tile_classification.head.config import (
    NOISES,
    REDUCTIONS,
    TileHeadConfig,
)
from mshisto_ray.tile_classification.head.files import load_heads
from mshisto_ray.tile_classification.head.fit import fit_head, predict_tiles
from mshisto_ray.tile_classification.head.preparation import (
    fit_preparation,
    group_moments,
)
from mshisto_ray.tile_classification.head.run import (
    cross_validate,
    plan_folds,
    recipe,
    write_result,
)

CPU = torch.device("cpu")


def settings(**keys):
    raw = {
        "embeddings": "x",
        "split": {"folds": 4, "validation": 0},
        "patience": None,
        "epochs": 6,
        "batch_size": 16,
        "lr": 0.02,
    }
    return configs.validate(TileHeadConfig, raw | keys)


def trained(samples, train, config):
    train = np.asarray(train)
    prepare = fit_preparation(samples, group_moments(samples), train, config)
    model = fit_head(samples, prepare, train, train[:0], config, (0, 0), 64, CPU)
    state = prepare.reduced.state if prepare.reduced else {}
    return model, {**model.model.state_dict(), **state, "mean": prepare.mean}


def changed(samples, rows):
    values = samples.features.values.copy()
    values[rows] = values[rows] * 50 + 7
    features = dataclasses.replace(samples.features, values=values)
    return dataclasses.replace(samples, features=features)


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def as_key(family, part, folder):
    found = checked(family, part, folder).model_dump(mode="json")
    return {**found, "dim": 1} if found.get("dim", 0) else found


@pytest.mark.parametrize("part", examples(NOISES))
def test_no_noise_sees_a_tile_outside_its_fold(planted_tiles, part, tmp_path):
    samples = planted_tiles()
    config = settings(noise=as_key(NOISES, part, tmp_path), epochs=2)
    train = np.arange(180)
    _, first = trained(samples, train, config)
    assert same(first, trained(changed(samples, slice(180, 240)), train, config)[1])
    assert not same(first, trained(samples, train, settings(epochs=2))[1])


@pytest.mark.parametrize("part", examples(REDUCTIONS))
def test_no_reduction_sees_a_tile_outside_its_fold(planted_tiles, part, tmp_path):
    samples = planted_tiles(classes=3)
    config = settings(reduction=as_key(REDUCTIONS, part, tmp_path), epochs=2)
    train = np.arange(180)
    _, first = trained(samples, train, config)
    assert same(first, trained(changed(samples, slice(180, 240)), train, config)[1])
    assert not same(first, trained(changed(samples, slice(0, 30)), train, config)[1])


@pytest.mark.parametrize("hidden", [[], [16]])
def test_a_head_learns_what_a_logistic_regression_does(planted_tiles, hidden):
    samples = planted_tiles(classes=3, seed=4)
    config = settings(hidden=hidden, gamma=0, epochs=40)
    train, test = np.arange(180), np.arange(180, 240)
    model, _ = trained(samples, train, config)
    found = predict_tiles(samples, model.model, model.prepare, test).argmax(1)
    scaler = StandardScaler().fit(samples.read(train))
    known = LogisticRegression(C=10).fit(
        scaler.transform(samples.read(train)), samples.target[train]
    )
    wanted = known.predict(scaler.transform(samples.read(test)))
    assert (found == wanted).mean() > 0.95
    assert (found == samples.target[test]).mean() > 0.9


def test_streamed_from_parquet_or_mapped_the_head_is_as_good(planted_tiles):
    scores = []
    for streamed in (False, True):
        samples = planted_tiles(streamed=streamed)
        model, _ = trained(samples, np.arange(180), settings(epochs=20))
        test = np.arange(180, 240)
        found = predict_tiles(samples, model.model, model.prepare, test)
        scores.append((found.argmax(1) == samples.target[test]).mean())
    assert min(scores) > 0.9


def test_validation_chooses_the_epoch(planted_tiles):
    samples = planted_tiles()
    config = settings(
        split={"folds": 4, "validation": 0.2}, patience=2, epochs=50, lr=0.05
    )
    train, validation = np.arange(150), np.arange(150, 180)
    prepare = fit_preparation(samples, group_moments(samples), train, config)
    model = fit_head(samples, prepare, train, validation, config, (0, 0), 64, CPU)
    scores = [record["val_balanced_accuracy"] for record in model.history]
    assert model.epochs == 1 + int(np.argmax(scores))
    assert len(scores) == model.epochs + 2


def test_patients_with_tiles_of_every_class_stay_together(planted_tiles):
    samples = planted_tiles(slides=8)
    splits = plan_folds(samples, settings())
    for split in splits:
        train = set(samples.group[split.train].tolist())
        assert not train & set(samples.group[split.test].tolist())
        assert len(set(samples.target[split.test].tolist())) == 2


def test_a_result_is_written_and_its_head_predicts_the_same(planted_tiles, tmp_path):
    samples = planted_tiles()
    config = settings(reduction={"name": "pca", "dim": 3}, hidden=[4])
    splits = plan_folds(samples, config)
    models, found = cross_validate(samples, splits, config, CPU)
    assert np.isfinite(found).all()
    metrics = write_result(tmp_path / "r", samples, splits, models, found, config)
    assert metrics["test_balanced_accuracy_mean"] > 0.8
    assert metrics["test_auroc_ci_low"] < metrics["test_auroc_mean"]
    head = load_heads(tmp_path / "r" / "head")
    test = np.sort(splits[2].test)
    model = head.models[2]
    again = predict_tiles(samples, model.model, model.prepare, test)
    np.testing.assert_allclose(again, found[0, test], atol=1e-5)


def test_values_that_are_not_finite_are_refused(planted_tiles):
    samples = planted_tiles()
    samples.features.values[40, 2] = np.nan
    with pytest.raises(InputError, match="slide 's1' has values that are not finite"):
        group_moments(samples)


def test_mixup_is_repeated_by_its_seed_and_changes_what_is_learned(planted_tiles):
    samples, train = planted_tiles(classes=3), np.arange(180)
    config = settings(mixup=0.4)
    one, two = (trained(samples, train, config)[1] for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)
    plain = trained(samples, train, settings())[1]
    assert not torch.equal(one["0.weight"], plain["0.weight"])
    model, _ = trained(samples, train, config)
    found = predict_tiles(samples, model.model, model.prepare, np.arange(180, 240))
    assert (found.argmax(1) == samples.target[180:]).mean() > 0.9


def test_without_mixup_the_recipe_is_as_before_it(planted_tiles):
    samples = planted_tiles()
    assert "mixup" not in recipe(settings(), samples)
    assert recipe(settings(mixup=0.2), samples)["mixup"] == 0.2
    with pytest.raises(InputError, match="mixup"):
        settings(mixup=-1)


def test_differences_of_held_out_slides_alone_are_refused_before_work(
    planted_tiles, tmp_path
):
    samples, path = planted_tiles(), tmp_path / "d.safetensors"
    values = np.random.default_rng(0).normal(size=(20, 6))
    noise = {"name": "augmentation", "path": str(path), "sigma": 0.3}
    write_differences(path, values, np.array(["s0"] * 20), {})
    with pytest.raises(InputError, match="make it from tiles of more slides"):
        plan_folds(samples, settings(noise=noise))
    plan_folds(samples, settings(noise=noise | {"sigma": 0}))
    write_differences(path, values, np.array(["s0", "s1"] * 10), {})
    given = dataclasses.replace(samples, folds=tuple("00112233"))
    with pytest.raises(InputError, match="make it from tiles of more slides"):
        plan_folds(given, settings(noise=noise))  # fold 0 holds out both
