"""What the job predict writes, and that Ray writes the same."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from fixtures.predicting import NUM, run, source
from mlflow.tracking import MlflowClient

from mshisto_ray.config import InputError
from mshisto_ray.mil.head import load_head
from mshisto_ray.mil.input.bags import read_bags
from mshisto_ray.mil.predict import predict as predict_bags
from mshisto_ray.prediction.unit import PredictWork, make_predictor
from mshisto_ray.store.cache import CacheConfig
from mshisto_ray.store.embeddings import shard_path
from mshisto_ray.store.shards import (
    read_metadata,
    read_shard,
    tensor_column,
    tensor_values,
    write_shard,
)


def test_workers_of_ray_write_the_same_files(
    local_ray, prediction_study, predicted, tmp_path
):
    run(prediction_study, tmp_path)
    names = sorted(
        path.relative_to(predicted)
        for kind in ("shards/*", "*.parquet", "heatmaps/*", "metrics.json")
        for path in predicted.glob(kind)
    )
    assert len(names) > 3 * NUM
    for name in names:
        first, second = predicted / name, tmp_path / name
        if name.suffix == ".parquet":
            assert pq.read_table(first).equals(pq.read_table(second)), name
            assert read_metadata(first) == read_metadata(second)
        else:
            assert first.read_bytes() == second.read_bytes(), name


def test_probabilities_are_those_of_the_head_on_all_bags_at_once(
    prediction_study, predicted
):
    table = pq.read_table(predicted / "predictions.parquet").to_pydict()
    cache = CacheConfig(dir=prediction_study / "cache")
    bags = read_bags(source(prediction_study, "cohort.csv"), None, None, cache)
    expected = predict_bags(
        load_head(prediction_study / "gated_attention"), bags, torch.device("cpu")
    )
    assert table["bag"] == list(bags.names)
    found = np.stack([table["prob_even"], table["prob_odd"]], axis=1)
    np.testing.assert_allclose(found, expected.probabilities, atol=1e-6)
    # Slides of training: one of two folds; the others: both.
    assert expected.models.tolist() == [1] * NUM + [2] * 2
    for i, name in enumerate(bags.names):
        shard = pq.read_table(predicted / "shards" / f"{name}.parquet")
        rows = slice(expected.offsets[i], expected.offsets[i + 1])
        attention = shard["attention"].to_numpy()
        np.testing.assert_allclose(attention, expected.attention[rows], atol=1e-6)
        assert attention.sum() == pytest.approx(1.0)


def test_labels_give_external_metrics_with_intervals(predicted):
    metrics = json.loads((predicted / "metrics.json").read_text())
    assert 0 <= metrics["auroc"]["low"] <= metrics["auroc"]["value"]
    assert metrics["auroc"]["value"] <= metrics["auroc"]["high"] <= 1


def test_subgroups_have_their_own_metrics(prediction_study, predicted, plainly, capsys):
    """The same predictions again, split by a column: what is done is not redone."""
    rows = (prediction_study / "all.csv").read_text().splitlines()
    sites = [f"{row},{'AB'[i % 3 == 0]}" for i, row in enumerate(rows[1:])]
    table = prediction_study / "sites.csv"
    table.write_text("\n".join([f"{rows[0]},site", *sites]) + "\n")
    with plainly():
        run(prediction_study, predicted, cohort=str(table), subgroups=["site"])
    said = capsys.readouterr().out
    assert "site=A: 6 bags, 6 patients" in said and "site=B: 4 bags" in said
    assert "fewer than 10 patients say little: site=A (6), site=B (4)" in said
    found = (predicted / "subgroups.csv").read_text().splitlines()
    assert found[0] == "column,value,bags,patients,metric,estimate,low,high"
    with pytest.raises(InputError, match="no column 'sex'"):
        run(prediction_study, predicted, cohort=str(table), subgroups=["sex"])


def area(scores, truth):
    more = scores[truth][:, None] - scores[~truth]
    return float(((more > 0) + (more == 0) / 2).mean())


def test_embeddings_that_are_not_finite_are_a_failure(prediction_study, tmp_path):
    shutil.copytree(prediction_study / "embeddings", tmp_path / "embeddings")
    path = shard_path(tmp_path / "embeddings", "s0", 0)
    groups = []
    for mpp in (0.5, 1.0, 2.0):
        table = read_shard(path, mpp=mpp)
        values = tensor_values(table["rgb"]).copy()
        values[0] = np.nan
        place = table.column_names.index("rgb")
        groups.append(table.set_column(place, "rgb", tensor_column(values)))
    write_shard(path, groups, read_metadata(path))
    work = PredictWork(
        prediction_study / "gated_attention",
        (tmp_path / "embeddings",),
        None,
        tmp_path / "out",
    )
    bag = {"slide_id": "s0", "patient_id": "p0", "slide_ids": ["s0"]}
    assert make_predictor(work, threads=1)(bag)["failures"] == 1
    told = read_metadata(tmp_path / "out" / "shards" / "s0.parquet")
    assert told["probabilities"] is None
    assert told["failures"][0]["error"] == "NotFinite"


def test_attention_is_held_against_annotated_tiles(prediction_study, predicted):
    """The mean over slides, and in MLflow as any external metric."""
    found, key = [], ["mpp", "row", "col"]
    for i in range(NUM):
        scores = pq.read_table(predicted / "shards" / f"s{i}.parquet").to_pandas()
        tiles = pq.read_table(
            prediction_study / "tiles" / "shards" / f"s{i}.parquet"
        ).to_pandas()
        both = scores.merge(tiles[[*key, "annotation"]], on=key)
        truth = (both.annotation == "tumour").to_numpy()
        assert len(both) == len(scores) and 0 < truth.sum() < len(truth)
        found.append(area(both.attention.to_numpy(), truth))
    metrics = json.loads((predicted / "metrics.json").read_text())
    assert metrics["attention_auroc_0.5"]["value"] == pytest.approx(np.mean(found))
    client = MlflowClient(f"sqlite:///{predicted.parent / 'mlflow.db'}")
    (experiment_,) = [e for e in client.search_experiments() if e.name != "Default"]
    (logged,) = client.search_runs([experiment_.experiment_id])
    value = logged.data.metrics["external_attention_auroc_0.5"]
    assert value == pytest.approx(np.mean(found))
    assert "external_attention_auroc_0.5_ci_low" in logged.data.metrics


def test_a_slide_without_embeddings_is_a_failure(predicted):
    (row,) = pq.read_table(predicted / "failures.parquet").to_pylist()
    assert (row["slide_id"], row["stage"], row["error"]) == (
        "gone",
        "predict",
        "NoTiles",
    )
    assert "mshisto embed" in row["message"]


def test_heat_maps_are_drawn(predicted):
    names = {path.name for path in (predicted / "heatmaps").iterdir()}
    kinds = ("attention.png", "tiles.png", "geojson")
    assert names == {f"s{i}.{kind}" for i in range(NUM + 2) for kind in kinds}


@pytest.mark.parametrize(
    ("pooling", "attention", "instances"),
    [("embedding_mean", False, False), ("instance_max", False, True)],
)
def test_what_a_pooling_does_not_have_is_null(
    prediction_study, tmp_path, pooling, attention, instances
):
    out = tmp_path / "out"
    work = PredictWork(
        prediction_study / pooling, (prediction_study / "embeddings",), None, out
    )
    bag = {"slide_id": "s0", "patient_id": "p0", "slide_ids": ["s0"]}
    make_predictor(work, threads=1)(bag)
    shard = pq.read_table(out / "shards" / "s0.parquet")
    assert (shard["attention"].null_count == 0) == attention
    assert (shard["instance_odd"].null_count == 0) == instances
    assert not (out / "heatmaps").exists()


def test_unusable_inputs(prediction_study, tmp_path):
    with pytest.raises(InputError, match=r"no model\.json"):
        run(prediction_study, tmp_path / "out", head=str(tmp_path))
    shutil.copytree(prediction_study / "embeddings", tmp_path / "other")
    manifest = tmp_path / "other" / "manifest.json"
    made = json.loads(manifest.read_text())
    for part, key, value, words in (
        ("encoder", "digest", "another", "embed the new slides with that one"),
        ("tiles", "tile_px", 128, "tile the new slides with tile_px=64"),
    ):
        recipe = {**made["recipe"], part: {**made["recipe"][part], key: value}}
        manifest.write_text(json.dumps({**made, "recipe": recipe}))
        with pytest.raises(InputError, match=words):
            run(prediction_study, tmp_path / "out", embeddings=str(tmp_path / "other"))
    assert not (tmp_path / "out").exists()


def test_a_head_takes_bags_of_tiles_of_its_own_side(prediction_study):
    head = load_head(prediction_study / "gated_attention")
    cache = CacheConfig(dir=prediction_study / "cache")
    bags = read_bags(source(prediction_study, "cohort.csv"), None, None, cache)
    assert head.tile_px == bags.tile_px == (64,)
    with pytest.raises(InputError, match="on tiles of 64 px, these have 128 px"):
        predict_bags(head, replace(bags, tile_px=(128,)), torch.device("cpu"))
    earlier = {key: v for key, v in head.about.items() if key != "tile_px"}
    assert replace(head, about=earlier).tile_px == ()
