"""The job predict with a head of several scales."""

import itertools
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from fixtures.predicting import run

from mshisto_ray import config as configs
from mshisto_ray.mil import experiment


@pytest.fixture(scope="module")
def cross_scale(prediction_study, plainly, tmp_path_factory):
    """A head of three scales, and its predictions."""
    raw = {
        "embeddings": str(prediction_study / "embeddings"),
        "cohort": str(prediction_study / "train.csv"),
        "scales": [2.0, 1.0, 0.5],
        "combine": {"name": "cross_scale", "heads": 2, "head_dim": 4},
        "split": {"folds": 2, "validation": 0},
        "hidden": [8],
        "epochs": 2,
        "early_stopping": None,
        "runtime": {"cache": {"dir": str(prediction_study / "cache")}},
    }
    config = configs.validate(experiment.ExperimentConfig, raw)
    bags, splits = experiment.load(config)
    experiment.run(config, bags, splits, prediction_study / "three_scales")
    out = tmp_path_factory.mktemp("cross_scale") / "out"
    with plainly():
        run(
            prediction_study,
            out,
            "three_scales/head",
            cohort=str(prediction_study / "cohort.csv"),
        )
    return out


def test_attention_over_children_is_saved_and_drawn(cross_scale):
    table = pq.read_table(cross_scale / "shards" / "s3.parquet").to_pandas()
    scales = [table[table.mpp == mpp] for mpp in (2.0, 1.0, 0.5)]
    assert scales[0].attention.sum() == pytest.approx(1)
    assert scales[0].child_attention.isna().all()
    for coarse, fine in itertools.pairwise(scales):
        assert fine.attention.isna().all()
        parents = list(zip(fine.row // 2, fine.col // 2, strict=True))
        assert set(parents) == set(zip(coarse.row, coarse.col, strict=True))
        sums = fine.groupby([fine.row // 2, fine.col // 2]).child_attention.sum()
        np.testing.assert_allclose(sums, np.ones(len(coarse)), rtol=1e-6)
    names = {path.name for path in (cross_scale / "heatmaps").iterdir()}
    assert {n for n in names if n.startswith("s3.")} == {
        "s3.attention.png", "s3.tiles.png", "s3.geojson",
        "s3.children_1.png", "s3.children_0.5.png",
        "s3.children_1.geojson", "s3.children_0.5.geojson",
    }  # fmt: skip
    text = (cross_scale / "heatmaps" / "s3.children_0.5.geojson").read_text()
    told = [f["properties"]["measurements"] for f in json.loads(text)["features"]]
    assert len(told) == len(scales[2])
    assert sum(one["attention"] for one in told) == pytest.approx(1)


def test_each_scale_is_held_against_annotated_tiles(cross_scale):
    metrics = json.loads((cross_scale / "metrics.json").read_text())
    localised = {name for name in metrics if "_auroc_" in name}
    # The square ends where finest tiles of one parent are of one kind.
    assert localised == {
        "attention_auroc_2", "attention_auroc_1", "attention_auroc_0.5",
        "child_attention_auroc_1",
    }  # fmt: skip
    for name in localised:
        assert 0 <= metrics[name]["low"] <= metrics[name]["high"] <= 1
