from types import SimpleNamespace

import pytest

from mshisto_ray import config
from mshisto_ray.learning.sweep.curves import mean_curve
from mshisto_ray.learning.sweep.names import differing, point_names
from mshisto_ray.learning.sweep.points import expand
from mshisto_ray.mil.experiment import ExperimentConfig


def points(**axes):
    base = config.validate(ExperimentConfig, {"bags": "/bags.parquet"})
    given = {key.replace("__", "."): values for key, values in axes.items()}
    return {f"{i:016x}": p for i, p in enumerate(expand(base, given))}


@pytest.mark.parametrize(
    ("axes", "wanted"),
    [
        (
            {"pooling": ["gated_attention", "dsmil"], "noise__sigma": [0, 0.1]},
            [
                "gated_attention, noise 0",
                "gated_attention, noise .1",
                "dsmil, noise 0",
                "dsmil, noise .1",
            ],
        ),
        (
            {"pooling": [{"name": "attention", "hidden": n} for n in (8, 16)]},
            ["attention 8", "attention 16"],
        ),
        (
            {
                "reduction": ["none", *({"name": "pca", "dim": n} for n in (16, 256))],
                "noise__sigma": [0.3],
                "optimiser__weight_decay": [1e-5],
            },
            [
                f"{part}, noise .3, weight_decay 1e-5"
                for part in ("none", "pca 16", "pca 256")
            ],
        ),
        ({"seed": [0], "hidden": [[8]]}, ["seed 0, hidden [8]"]),
        ({"hidden": [[], [8]]}, ["hidden none", "hidden [8]"]),
        (
            {"pooling__hidden": [4, 8], "hidden": [[8]]},
            ["pooling.hidden 4, hidden [8]", "pooling.hidden 8, hidden [8]"],
        ),
        ({}, ["gated_attention"]),
    ],
)
def test_names_say_what_differs(axes, wanted):
    assert list(point_names(points(**axes)).values()) == wanted


def test_paths_are_named_by_their_last_folder_and_long_names_stay_distinct():
    def point(*values):
        axes = dict(zip(("embeddings", "pooling", "optimiser.lr"), values, strict=True))
        return SimpleNamespace(values=axes)

    long = "a_pooling_with_a_name_of_forty_characters"
    given = {
        "aaaaa1": point("/x/uni", long, 0.1),
        "bbbbb2": point("/x/uni", long, 0.2),
        "ccccc3": point("/x/gigapath", "mean", 0.1),
    }
    names = list(point_names(given).values())
    assert len(set(names)) == 3 and max(map(len, names)) <= 40
    assert names[0].startswith("embeddings uni, a_pool") and names[0].endswith("aaaaa")
    assert names[2] == "embeddings gigapath, mean, lr .1"


def test_params_are_what_differs_and_not_what_comes_with_a_pooling():
    found = differing(points(pooling=["attention", "embedding_mean"], seed=[3]))
    assert list(found.values()) == [
        {"pooling": "attention", "seed": "3"},
        {"pooling": "embedding_mean", "seed": "3"},
    ]
    widths = [{"name": "attention", "hidden": n} for n in (8, 16)]
    found = differing(points(pooling=[*widths, "embedding_mean"]))
    assert [f.get("pooling.hidden") for f in found.values()][:2] == ["8", "16"]


def test_the_mean_curve_ends_where_half_of_the_models_have_stopped():
    losses = ([1.0, 0.8, 0.6], [3.0, 2.0], [2.0])
    models = [
        {"history": [{"loss": 9.0, "bag_loss": v, "val_loss": None} for v in run]}
        for run in losses
    ]
    assert mean_curve(models) == [
        {"step": 1.0, "epoch_train_loss": 2.0},
        {"step": 2.0, "epoch_train_loss": pytest.approx(1.4)},
    ]
    assert mean_curve([]) == []
