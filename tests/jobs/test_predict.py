"""Applying a saved head to slides through Ray."""

import itertools
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from mlflow.tracking import MlflowClient

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.decision.config import DecisionConfig
from mshisto_ray.decision.files import Decision, write_decision
from mshisto_ray.decision.rules import DecisionRules
from mshisto_ray.jobs import embed, predict, tile
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.mil import experiment
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.mil.head import load_head
from mshisto_ray.mil.input.bags import read_bags
from mshisto_ray.mil.input.config import InputConfig
from mshisto_ray.mil.predict import predict as predict_bags
from mshisto_ray.mil.trained_head import save_head
from mshisto_ray.prediction.unit import Bag, PredictWork, make_predictor
from mshisto_ray.statistics.calibration import Temperature
from mshisto_ray.statistics.conformal import ConformalSets
from mshisto_ray.store.attempts import Attempts
from mshisto_ray.store.cache import CacheConfig
from mshisto_ray.store.embeddings import EmbeddingDirectory, shard_path
from mshisto_ray.store.shards import (
    read_metadata,
    read_shard,
    tensor_column,
    tensor_values,
    write_shard,
)

TARGET = TargetConfig(column="label")
NUM = 8


@pytest.fixture(scope="module")
def study(plainly, tmp_path_factory, write_slide):
    """Tiles, embeddings and a head of eight slides; two more for prediction only."""
    folder = tmp_path_factory.mktemp("study")
    rows = ["path,patient_id,label,annotation"]
    write_square(folder / "tumour.geojson")
    for i in range(NUM + 2):
        write_slide(folder / f"s{i}.tiff", i, size=(700, 700))
        drawn = "tumour.geojson" if i < NUM else ""
        rows.append(f"s{i}.tiff,p{i},{'odd' if i % 2 else 'even'},{drawn}")
    rows.append("gone.tiff,p99,odd,")
    (folder / "all.csv").write_text("\n".join(rows) + "\n")
    (folder / "train.csv").write_text("\n".join(rows[: NUM + 1]) + "\n")
    (folder / "cohort.csv").write_text("\n".join(rows[:-1]) + "\n")
    raw = {"cohort": str(folder / "cohort.csv"), "out": str(folder / "tiles")}
    tiling = configs.validate(tile.TileConfig, raw | {"tile_px": 64})
    raw = {"tiles": str(folder / "tiles"), "out": str(folder / "embeddings")}
    encoder = {"encoder": {"name": "colour_stats"}}
    embedding = configs.validate(embed.EmbedConfig, raw | encoder)
    with plainly():
        tile.run(tiling)
        embed.run(embedding)
    for pooling in ("gated_attention", "embedding_mean", "instance_max"):
        train_head(folder, pooling)
    return folder


def write_square(path):
    """GeoJSON of a square that tiles of every scale are half in, or out of."""
    ring = [[0, 0], [352, 0], [352, 352], [0, 352], [0, 0]]
    feature = {
        "type": "Feature",
        "properties": {"classification": {"name": "tumour"}},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))


def source(folder, name):
    return InputConfig(embeddings=folder / "embeddings", cohort=folder / name)


def train_head(folder, pooling):
    cache = CacheConfig(dir=folder / "cache")
    bags = read_bags(source(folder, "train.csv"), TARGET, None, cache)
    config = configs.validate(
        TrainConfig,
        {
            "pooling": {"name": pooling},
            "hidden": [8],
            "epochs": 2,
            "early_stopping": None,
        },
    )
    split = SplitConfig(folds=2, validation=0.0)
    splits = plan_splits(bags, split, config)
    result = cross_validate(bags, splits, config, torch.device("cpu"))
    about = {"unit": "slide", "target": TARGET.model_dump(mode="json")}
    save_head(folder / pooling, result, bags, config, about)


def run(study, out, pooling="gated_attention", **changes):
    raw = {
        "head": str(study / pooling),
        "embeddings": str(study / "embeddings"),
        "cohort": str(study / "all.csv"),
        "tiles": str(study / "tiles"),
        "out": str(out),
    }
    config = configs.validate(predict.PredictConfig, raw | changes)
    predict.run(config)
    return config


@pytest.fixture(scope="module")
def predicted(study, plainly, tmp_path_factory):
    out = tmp_path_factory.mktemp("predicted") / "out"
    with plainly():
        run(study, out)
    return out


def test_what_the_head_decides_is_applied_and_examined(study, plainly, tmp_path):
    head = tmp_path / "head"
    shutil.copytree(study / "gated_attention", head)
    config = configs.validate(
        DecisionConfig, {"calibration": "temperature", "coverage": 0.9}
    )
    rules = DecisionRules(Temperature(0.5), 0.45, ConformalSets(np.array([0.0, 0.45])))
    reference = np.random.default_rng(0).normal(size=(30, load_head(head).dims[0]))
    write_decision(head, Decision(config, rules, 5, reference.astype("f4")))
    with plainly():
        run(study, tmp_path / "out", head=str(head), tiles=None, subgroups=["label"])
    table = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pydict()
    p = np.stack([table["prob_even"], table["prob_odd"]], 1)
    calibrated = np.stack([table["calibrated_even"], table["calibrated_odd"]], 1)
    new = [i for i, bag in enumerate(table["bag"]) if int(bag[1:]) >= NUM]
    np.testing.assert_allclose(calibrated[:NUM], rules.calibrated(p[:NUM]), rtol=1e-6)
    called = np.array(["even", "odd"])[(calibrated[:, 1] >= 0.45).astype(int)]
    assert table["decision"] == called.tolist()
    expected = [["even", "odd"] if q >= 0.45 else ["even"] for q in p[:, 1]]
    assert table["set"] == expected
    assert table["abstains"] == [len(members) == 2 for members in expected]
    known = [i for i, found in enumerate(table["drift_p"]) if found is not None]
    assert known == new
    assert all(0 < table["drift_p"][i] <= 1 for i in new)
    text = (tmp_path / "out" / "summary.md").read_text()
    for line in ("those of the head, fitted on 5 validation patients", "Drift: the 2",
                 "8 of the bags are of patients of training", "Sets: 90% were promised",
                 "Brier score, after temperature"):  # fmt: skip
        assert line in text, line
    assert (tmp_path / "out" / "decisions.png").stat().st_size > 5000
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Decision curve" in page
    assert "decision_covered" in (tmp_path / "out" / "subgroups.csv").read_text()


def test_workers_of_ray_write_the_same_files(local_ray, study, predicted, tmp_path):
    run(study, tmp_path)
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


def test_probabilities_are_those_of_the_head_on_all_bags_at_once(study, predicted):
    table = pq.read_table(predicted / "predictions.parquet").to_pydict()
    cache = CacheConfig(dir=study / "cache")
    bags = read_bags(source(study, "cohort.csv"), None, None, cache)
    expected = predict_bags(
        load_head(study / "gated_attention"), bags, torch.device("cpu")
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


def test_subgroups_have_their_own_metrics(study, predicted, plainly, capsys):
    """The same predictions again, split by a column: what is done is not redone."""
    rows = (study / "all.csv").read_text().splitlines()
    sites = [f"{row},{'AB'[i % 3 == 0]}" for i, row in enumerate(rows[1:])]
    table = study / "sites.csv"
    table.write_text("\n".join([f"{rows[0]},site", *sites]) + "\n")
    with plainly():
        run(study, predicted, cohort=str(table), subgroups=["site"])
    said = capsys.readouterr().out
    assert "site=A: 6 bags, 6 patients" in said and "site=B: 4 bags" in said
    assert "fewer than 10 patients say little: site=A (6), site=B (4)" in said
    found = (predicted / "subgroups.csv").read_text().splitlines()
    assert found[0] == "column,value,bags,patients,metric,estimate,low,high"
    with pytest.raises(InputError, match="no column 'sex'"):
        run(study, predicted, cohort=str(table), subgroups=["sex"])


def area(scores, truth):
    more = scores[truth][:, None] - scores[~truth]
    return float(((more > 0) + (more == 0) / 2).mean())


def test_embeddings_that_are_not_finite_are_a_failure(study, tmp_path):
    shutil.copytree(study / "embeddings", tmp_path / "embeddings")
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
        study / "gated_attention", (tmp_path / "embeddings",), None, tmp_path / "out"
    )
    bag = {"slide_id": "s0", "patient_id": "p0", "slide_ids": ["s0"]}
    assert make_predictor(work, threads=1)(bag)["failures"] == 1
    told = read_metadata(tmp_path / "out" / "shards" / "s0.parquet")
    assert told["probabilities"] is None
    assert told["failures"][0]["error"] == "NotFinite"


def test_attention_is_held_against_annotated_tiles(study, predicted):
    """The mean over slides, and in MLflow as any external metric."""
    found, key = [], ["mpp", "row", "col"]
    for i in range(NUM):
        scores = pq.read_table(predicted / "shards" / f"s{i}.parquet").to_pandas()
        tiles = pq.read_table(study / "tiles" / "shards" / f"s{i}.parquet").to_pandas()
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
    assert "jobs/embed.py" in row["message"]


def test_heat_maps_are_drawn(predicted):
    names = {path.name for path in (predicted / "heatmaps").iterdir()}
    kinds = ("attention.png", "tiles.png", "geojson")
    assert names == {f"s{i}.{kind}" for i in range(NUM + 2) for kind in kinds}


@pytest.mark.parametrize(
    ("pooling", "attention", "instances"),
    [("embedding_mean", False, False), ("instance_max", False, True)],
)
def test_what_a_pooling_does_not_have_is_null(
    study, tmp_path, pooling, attention, instances
):
    out = tmp_path / "out"
    work = PredictWork(study / pooling, (study / "embeddings",), None, out)
    bag = {"slide_id": "s0", "patient_id": "p0", "slide_ids": ["s0"]}
    make_predictor(work, threads=1)(bag)
    shard = pq.read_table(out / "shards" / "s0.parquet")
    assert (shard["attention"].null_count == 0) == attention
    assert (shard["instance_odd"].null_count == 0) == instances
    assert not (out / "heatmaps").exists()


@pytest.fixture(scope="module")
def cross_scale(study, plainly, tmp_path_factory):
    """A head of three scales, and its predictions."""
    raw = {
        "embeddings": str(study / "embeddings"),
        "cohort": str(study / "train.csv"),
        "scales": [2.0, 1.0, 0.5],
        "combine": {"name": "cross_scale", "heads": 2, "head_dim": 4},
        "split": {"folds": 2, "validation": 0},
        "hidden": [8],
        "epochs": 2,
        "early_stopping": None,
        "runtime": {"cache": {"dir": str(study / "cache")}},
    }
    config = configs.validate(experiment.ExperimentConfig, raw)
    bags, splits = experiment.load(config)
    experiment.run(config, bags, splits, study / "three_scales")
    out = tmp_path_factory.mktemp("cross_scale") / "out"
    with plainly():
        run(study, out, "three_scales/head", cohort=str(study / "cohort.csv"))
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


def test_a_second_run_does_only_what_is_missing(plain, study, predicted, capfd):
    run(study, predicted, annotation="gland")
    said = capfd.readouterr().out
    assert "no tile of these slides is annotated as 'gland'; have tumour" in said
    run(study, predicted)
    # The bag without tiles is retried: it may have been embedded since.
    assert "predict: 10 of 11 bags already done" in capfd.readouterr().out


def test_a_slide_embedded_anew_is_predicted_anew(
    plain, study, predicted, tmp_path, capfd
):
    for name in ("embeddings", "out"):
        shutil.copytree(predicted if name == "out" else study / name, tmp_path / name)
    table = tmp_path / "embeddings" / "slides.parquet"
    rows = pq.read_table(table)
    changed = [(s == "s3" and "new") or m for s, m in zip(
        rows["slide_id"].to_pylist(), rows["made_from"].to_pylist(), strict=True
    )]  # fmt: skip
    place = rows.schema.get_field_index("made_from")
    pq.write_table(rows.set_column(place, rows.schema.field(place), [changed]), table)
    given = str(tmp_path / "embeddings")
    run(study, tmp_path / "out", embeddings=given)
    # With the bag without tiles.
    assert "predict: 9 of 11 bags already done" in capfd.readouterr().out


def test_a_bag_that_ended_its_process_twice_is_not_drawn_again(study, tmp_path):
    paths = (study / "embeddings",)
    work = PredictWork(study / "gated_attention", paths, study / "tiles", tmp_path)
    attempts = Attempts(tmp_path, "s0")
    attempts.begin(), attempts.begin()
    bag = {"slide_id": "s0", "patient_id": "p0", "slide_ids": ["s0"]}
    assert make_predictor(work, 1)(bag)["failures"] == 1
    metadata = read_metadata(predict.shard_path(tmp_path, "s0"))
    (failure,) = metadata["failures"]
    assert failure["kind"] == "crash" and "ended 2 times" in failure["message"]
    assert metadata["probabilities"]
    assert not list(tmp_path.rglob("*.png"))
    held = Bag.from_unit(bag), [EmbeddingDirectory(study / "embeddings")]
    for retry in (False, True):
        raw = {key: str(study) for key in ("head", "embeddings", "cohort")}
        raw |= {"out": str(tmp_path), "runtime": {"retry_failures": retry}}
        config = configs.validate(predict.PredictConfig, raw)
        assert predict._is_done(config, *held) != retry


def test_unusable_inputs(study, tmp_path):
    with pytest.raises(InputError, match=r"no model\.json"):
        run(study, tmp_path / "out", head=str(tmp_path))
    shutil.copytree(study / "embeddings", tmp_path / "other")
    manifest = tmp_path / "other" / "manifest.json"
    told = json.loads(manifest.read_text())
    told["recipe"]["encoder"]["digest"] = "another"
    manifest.write_text(json.dumps(told))
    with pytest.raises(InputError, match="embed the new slides with that one"):
        run(study, tmp_path / "out", embeddings=str(tmp_path / "other"))
    assert not (tmp_path / "out").exists()
