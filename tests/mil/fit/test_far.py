"""Bags beyond everything that was learned from: named, and cut off where wanted."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.mil import experiment, experiment_recipe
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.head import load_head
from mshisto_ray.mil.predict import predict

CPU = torch.device("cpu")


def write(path, off=30.0):
    """Ages that follow feature 0; feature 2 hardly varies but in patient p7."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 4))
    values[:, 2] = 5 + 0.003 * values[:, 2]
    values[7, 2] += off
    rows = {"bag": [f"p{i}" for i in range(60)], "features": values.tolist()}
    rows["age"] = 60 + 5 * values[:, 0]
    pq.write_table(pa.table(rows), path)
    return path


def settings(path, **keys):
    raw = {
        "bags": str(path),
        "target": {"kind": "regression", "column": "age"},
        "split": {"folds": 3, "validation": 0},
        "pooling": {"name": "embedding_mean"},
        "hidden": [],
        "dropout": 0,
        "epochs": 20,
        "batch_size": 8,
        "optimiser": {"lr": 0.05},
        "early_stopping": None,
        **keys,
    }
    return configs.validate(ExperimentConfig, raw)


def test_who_lies_beyond_is_named_with_the_feature(tmp_path):
    config = settings(write(tmp_path / "bags.parquet"))
    bags, _ = experiment.load(config)
    (far,) = [n for n in experiment.notes(config, bags) if n.startswith("warning")]
    assert far.startswith("warning: 1 of 60 bags lie more than 50 standard dev")
    assert "(p7 in feature 2 by" in far and "clip=10" in far and "\n" not in far
    for other in (
        settings(tmp_path / "bags.parquet", clip=10),
        settings(write(tmp_path / "near.parquet", off=0.0)),
    ):
        bags, _ = experiment.load(other)
        notes = experiment.notes(other, bags)
        assert not [n for n in notes if n.startswith("warning")]


def test_a_clipped_model_says_nothing_absurd_and_its_head_neither(tmp_path):
    path, found = write(tmp_path / "bags.parquet"), {}
    for clip in (None, 10):
        config = settings(path, clip=clip)
        bags, splits = experiment.load(config)
        folder = tmp_path / str(clip)
        experiment.run(config, bags, splits, folder)
        head = load_head(folder / "head")
        again = predict(head, bags, CPU).probabilities[:, 0]
        result = cross_validate(bags, splits, config, CPU).test
        place = {name: i for i, name in enumerate(result.bag)}
        ordered = result.probabilities[[place[n] for n in bags.names], 0]
        np.testing.assert_allclose(again, ordered, rtol=1e-5)
        found[clip] = again[7]
    assert abs(found[None] - 60) > 80
    assert abs(found[10] - 60) < 30


def test_clip_is_a_number_of_deviations_and_no_clip_is_what_it_was(tmp_path):
    path = write(tmp_path / "bags.parquet")
    plain, cut = settings(path), settings(path, clip=10)
    bags, _ = experiment.load(plain)
    assert "clip" not in experiment_recipe.recipe(plain, bags)
    assert experiment_recipe.recipe(cut, bags)["clip"] == 10
    with pytest.raises(InputError, match=r"clip: .*greater than 0"):
        settings(path, clip=0)
