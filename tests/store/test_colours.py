"""Embeddings opened in a colour mode: trained on, predicted with, evaluated, cached."""

import numpy as np
import pytest
import torch

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.evaluation.tile_set import read_tile_set, read_values
from mshisto_ray.jobs import predict
from mshisto_ray.jobs.evaluate import EvaluateConfig
from mshisto_ray.jobs.predict import PredictConfig
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.mil.head import load_head
from mshisto_ray.mil.input.bags import read_bags
from mshisto_ray.mil.input.config import InputConfig
from mshisto_ray.mil.trained_head import save_head
from mshisto_ray.prediction.tile_bag import in_colours, read_slide
from mshisto_ray.store.cache import CacheConfig, open_features
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.tiles import TileDirectory

SLIDES = ["s0", "s1", "s2", "s3"]


def rgb(table):
    names = ("mpp", "row", "col")
    columns = [table[name].to_numpy().astype(float) for name in names]
    number = float(table["slide_id"][0].as_py()[1:])
    return np.stack([*columns, np.full(table.num_rows, number)], 1)


def gray(table):
    return rgb(table) + 50


@pytest.fixture
def made(stages, tmp_path):
    tiles = stages.tiles(dict.fromkeys(SLIDES))
    lines = [f"{name}.tiff,{'ab'[i % 2]}" for i, name in enumerate(SLIDES)]
    (tmp_path / "cohort.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    return tiles, stages.embeddings(rgb, "both", gray=gray)


def test_reads_digest_and_encoder_are_of_the_colour(made):
    plain, first, second = (
        EmbeddingDirectory(made[1], colour) for colour in (None, "rgb", "gray")
    )
    assert plain.digest == first.digest != second.digest
    assert plain.encoder == first.encoder == {"name": "both"}
    assert second.encoder == {"name": "both", "colour": "gray"}
    found = second.read("s0", 0.5).values
    np.testing.assert_array_equal(found, first.read("s0", 0.5).values + 50)
    with pytest.raises(InputError, match=r"colour: 'red' is not in .*; have rgb, gray"):
        EmbeddingDirectory(made[1], "red")


@pytest.mark.parametrize("max_gib", [0, 1])
def test_the_cache_keeps_colours_apart(made, tmp_path, max_gib):
    cache = CacheConfig(dir=tmp_path / "cache", max_gib=max_gib)
    first, second = (
        open_features(EmbeddingDirectory(made[1], colour), 0.5, cache).read(0)
        for colour in ("rgb", "gray")
    )
    np.testing.assert_array_equal(np.asarray(second), np.asarray(first) + 50)


@pytest.mark.parametrize("scales", [None, (1.0, 0.5)])
def test_a_head_is_applied_to_the_colour_that_it_was_trained_on(made, tmp_path, scales):
    given = {"embeddings": made[1], "cohort": tmp_path / "cohort.csv"}
    source = InputConfig(**given, colour="gray", scales=scales)
    target = TargetConfig(column="label")
    bags = read_bags(source, target, None, CacheConfig(dir=tmp_path / "cache"))
    raw = {"hidden": [4], "epochs": 1, "early_stopping": None}
    raw |= {"combine": {"name": "concat"}} if scales else {}
    training = configs.validate(TrainConfig, raw)
    splits = plan_splits(bags, SplitConfig(folds=2, validation=0), training)
    result = cross_validate(bags, splits, training, torch.device("cpu"))
    about = {"unit": "slide", "target": target.model_dump(mode="json")}
    save_head(tmp_path / "head", result, bags, training, about)
    head = load_head(tmp_path / "head")
    opened = [EmbeddingDirectory(made[1])] * len(scales or (0,))
    directories = in_colours(head, opened)
    assert {directory.colour for directory in directories} == {"gray"}
    read = read_slide(head, directories, "s0").tiles.values
    assert read[:, 1:].min() >= 50
    config = {"head": tmp_path / "head", **given, "out": tmp_path / "predicted"}
    predict.check(
        configs.validate(PredictConfig, {k: str(v) for k, v in config.items()})
    )


def test_evaluate_takes_a_colour_of_each_encoder(made):
    both = {name: str(made[1]) for name in ("rgb", "gray")}
    raw = {"encoders": both, "colours": {"gray": "gray"}, "tiles": str(made[0])}
    raw |= {"out": "out"}
    config = configs.validate(EvaluateConfig, raw)
    found = {
        name: EmbeddingDirectory(path, config.colours.get(name))
        for name, path in config.encoders.items()
    }
    tiles = read_tile_set(TileDirectory(made[0]), found, SLIDES, 0.5)
    ours, theirs = (read_values(found[name], tiles) for name in ("rgb", "gray"))
    np.testing.assert_array_equal(theirs, ours + 50)
    with pytest.raises(InputError, match="colours: 'grey' is no encoder; have rgb"):
        configs.validate(EvaluateConfig, raw | {"colours": {"grey": "gray"}})


def test_a_bag_table_has_no_colour(tmp_path):
    with pytest.raises(ValueError, match="colour: of embeddings"):
        InputConfig(bags=tmp_path / "bags.parquet", colour="gray")
