"""Recipes of default configs: a directory with the same digest is resumed.

A change of a digest makes every directory of that job anew. Those of tile, embed,
pretrain and finetune were written by the version before the keys of `runtime`; so was
that of `plain_recipe`, the training as it was before its defaults changed.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from mshisto_ray import config as configs
from mshisto_ray.jobs import _embed_config as embed
from mshisto_ray.jobs import finetune, pretrain, tile, train
from mshisto_ray.jobs._sweep_config import SweepConfig
from mshisto_ray.learning.sweep.points import expand
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.mil import experiment_recipe
from mshisto_ray.store.manifest import Manifest, recipe_digest

TILES = SimpleNamespace(
    manifest=Manifest("tiles", {"scales": [0.5, 1.0], "tile_px": 64}, "0" * 32),
    pixel_recipe={"scales": [0.5, 1.0], "tile_px": 64},
)
INDEX = SimpleNamespace(
    slide_ids=["a", "b"], patient=np.array([0, 1]), label=np.array([0, 1])
)
DATA = SimpleNamespace(
    tiles=TILES, whole=SimpleNamespace(classes=("no", "yes"), index=INDEX), tested=None
)
BAGS = SimpleNamespace(
    scales=None, scale=0.5, identity="0" * 32, kind=TargetConfig().build()
)


def config(kind, **keys):
    return configs.validate(kind, {"out": "/out", **keys})


@pytest.fixture
def foreign_columns(monkeypatch):
    """Every config that reads a cohort names its patients otherwise."""
    made = config

    def named(kind, **keys):
        if "columns" in kind.model_fields:
            keys["columns"] = {"patient_id": "case_id", "fold": "part"}
        return made(kind, **keys)

    monkeypatch.setitem(globals(), "config", named)


def tile_recipe():
    return config(tile.TileConfig, cohort="/cohort.csv").recipe.as_recipe()


def embed_recipe():
    given = config(embed.EmbedConfig, tiles="/tiles", encoder={"name": "colour_stats"})
    (target,) = embed.make_targets(given, TILES)
    return target.recipe


def point_recipe():
    keys = {"embeddings": "/embeddings", "cohort": "/cohort.csv"}
    given = config(SweepConfig, axes={"noise.sigma": [0.1]}, **keys)
    (point,) = expand(given, given.axes)
    return experiment_recipe.recipe(point.config, BAGS)


def train_recipe():
    keys = {"embeddings": "/embeddings", "cohort": "/cohort.csv"}
    return experiment_recipe.recipe(config(train.TrainJobConfig, **keys), BAGS)


def vote_recipe():
    keys = {"embeddings": "/embeddings", "cohort": "/cohort.csv", "vote": {"bags": 3}}
    return experiment_recipe.recipe(config(train.TrainJobConfig, **keys), BAGS)


def plain_recipe():
    keys = {"embeddings": "/embeddings", "cohort": "/cohort.csv"}
    constant = {"lr": 1e-3, "schedule": "constant", "warmup_steps": 0}
    keys |= {"optimiser": constant, "early_stopping": None}
    return experiment_recipe.recipe(config(train.TrainJobConfig, **keys), BAGS)


def pretrain_recipe():
    given = config(pretrain.PretrainJobConfig, tiles="/tiles")
    return pretrain._recipe(given, TILES, INDEX)


def finetune_recipe():
    given = config(finetune.FinetuneJobConfig, tiles="/tiles")
    return finetune._recipe(given, DATA)


@pytest.mark.parametrize(
    ("recipe", "digest"),
    [
        (tile_recipe, "cf8920e9966c485b63eadf234396d137"),
        (embed_recipe, "1928b9cbb2293289fc3a284db5b93db9"),
        (point_recipe, "273a3b811f513310389dfc23a4749fad"),
        (train_recipe, "36f36c04400c52e61bb3bfce861e9758"),
        (vote_recipe, "c8f6fee077249f81facd0e3279cbd088"),
        (plain_recipe, "60d294d456cab282002b424524e2f34c"),
        (pretrain_recipe, "3466a18a3a6d6b320d4dc5c15b1024ab"),
        (finetune_recipe, "6861016b5bf4333c25f6b52e304fa241"),
    ],
)
def test_a_default_recipe_keeps_its_digest(recipe, digest):
    assert recipe_digest(recipe()) == digest


@pytest.mark.parametrize(
    "recipe",
    [tile_recipe, embed_recipe, point_recipe, train_recipe, pretrain_recipe,
     finetune_recipe],
)  # fmt: skip
def test_names_of_columns_are_in_no_recipe(recipe, request):
    before = recipe()
    request.getfixturevalue("foreign_columns")
    assert recipe() == before
