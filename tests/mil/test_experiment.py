import json
import math
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mshisto_ray import config
from mshisto_ray.config import InputError
from mshisto_ray.jobs.train import TrainJobConfig, check, run
from mshisto_ray.learning import result_files
from mshisto_ray.learning.intervals import intervals
from mshisto_ray.learning.metrics import METRICS
from mshisto_ray.learning.predictions import read_predictions
from mshisto_ray.mil import experiment, experiment_recipe, experiment_result
from mshisto_ray.mil.head import load_head
from mshisto_ray.store.manifest import differences

QUICK = {"hidden": [8], "epochs": 2, "split": {"folds": 3}, "early_stopping": None}


@pytest.fixture
def table(tmp_path, planted):
    return write(tmp_path / "bags.parquet", planted(num=30))


def write(path, bags, labels=None):
    rows = np.repeat(np.arange(len(bags)), bags.sizes)
    columns = {
        "bag": [bags.names[r] for r in rows],
        "label": [bags.classes[bags.targets[r]] for r in rows],
        "features": bags.features.values.tolist(),
    }
    if labels is not None:
        columns["label"] = [labels[r] for r in rows]
    pq.write_table(pa.table(columns), path)
    return path


def settings(table, **keys):
    return config.validate(
        experiment.ExperimentConfig, {"bags": str(table), **QUICK, **keys}
    )


def test_the_folder_holds_the_whole_result(table, tmp_path):
    given = settings(table)
    bags, splits = experiment.load(given)
    metrics = experiment.run(given, bags, splits, tmp_path / "result")
    names = {p.name for p in (tmp_path / "result").iterdir()}
    assert names == {
        "config.yaml", "metrics.json", "predictions.parquet", "validation.parquet",
        "history.json", "head",
    }  # fmt: skip
    test = read_predictions(tmp_path / "result" / "predictions.parquet")
    found = intervals(test)["auroc"]
    assert metrics["test_auroc_mean"] == found.value
    assert metrics["test_auroc_ci_low"] == found.low <= metrics["test_auroc_ci_high"]
    assert result_files.read_metrics(tmp_path / "result") == metrics
    for name in METRICS:
        for value in ("mean", "ci_low", "ci_high"):
            assert {f"val_{name}_{value}", f"test_{name}_{value}"} <= metrics.keys()
    assert load_head(tmp_path / "result" / "head").about["target"]["column"] == "label"
    curves = json.loads((tmp_path / "result" / "history.json").read_text())
    assert [len(c["history"]) for c in curves] == [2, 2, 2]
    back = config.load(
        experiment.ExperimentConfig, tmp_path / "result" / "config.yaml", {}
    )
    assert back == given


def test_sites_are_left_out_and_belong_to_the_recipe(table, tmp_path):
    rows = pq.read_table(table)
    number = np.array([int(name[1:]) for name in rows["bag"].to_pylist()])
    sites = pa.array([f"s{n // 2 % 6}" for n in number])
    pq.write_table(rows.append_column("site", sites), table)
    given = settings(table, split={"folds": 3, "group": "site"}, draws="balanced")
    bags, splits = experiment.load(given)
    site = np.array(bags.groups)
    for split in splits:
        assert not set(site[split.test]) & set(site[[*split.train, *split.validation]])
    assert "6 values of 'site' that stay together" in experiment.notes(given, bags)[0]
    found = experiment_recipe.recipe(given, bags)
    assert found["split"]["group"] == "site" and found["draws"] == "balanced"
    plain = settings(table)
    assert (
        experiment_recipe.recipe(plain, experiment.load(plain)[0])["data"]
        != found["data"]
    )
    with pytest.raises(InputError, match="no column 'hospital'"):
        experiment.load(settings(table, split={"group": "hospital"}))
    with pytest.raises(InputError, match="balanced is of classes"):
        age = {"kind": "regression", "column": "age"}
        settings(table, draws="balanced", target=age)


def test_a_decision_is_made_of_a_finished_result(table, tmp_path):
    keys = {"bags": str(table), "out": str(tmp_path / "out"), **QUICK}
    runtime = {"mlflow": {"uri": f"sqlite:///{tmp_path / 'mlflow.db'}"}}
    plain = config.validate(TrainJobConfig, {**keys, "runtime": runtime})
    run(plain)
    head = tmp_path / "out" / "result" / "head"
    assert load_head(head).decision.rules.threshold is None
    time = (head / "model.json").stat().st_mtime_ns
    decision = {"threshold": {"policy": "specificity", "value": 0.8}, "coverage": 0.7}
    given = {**keys, "runtime": runtime, "decision": decision}
    run(config.validate(TrainJobConfig, given))
    found = load_head(head).decision
    assert found.rules.threshold is not None and found.rules.sets is not None
    assert (head / "model.json").stat().st_mtime_ns == time  # nothing trained anew
    text = (tmp_path / "out" / "summary.md").read_text()
    assert "specificity at the threshold (for a specificity of 0.8)" in text
    assert "sets that hold the true class (promised 70%)" in text
    with pytest.raises(InputError, match=r"split\.validation is 0"):
        split = {"folds": 3, "validation": 0}
        check(config.validate(TrainJobConfig, {**given, "split": split}))


def test_bounds_of_an_earlier_version_are_made_anew(table, tmp_path):
    given = settings(table)
    metrics = experiment.run(given, *experiment.load(given), tmp_path / "result")
    file = tmp_path / "result" / "metrics.json"
    old = json.loads(file.read_text())
    assert old.pop("intervals") == "score"
    old["test_auroc_ci_low"] = old["val_f1_ci_high"] = 0.123
    file.write_text(json.dumps(old))
    assert result_files.read_metrics(tmp_path / "result") == metrics
    assert json.loads(file.read_text()) == old


def test_a_metric_that_is_not_defined_is_null_in_the_file(table, tmp_path, monkeypatch):
    found = {"test_auroc_mean": math.nan, "test_accuracy_mean": 1.0}
    monkeypatch.setattr(experiment_result, "measure", lambda *_: found)
    given = settings(table)
    experiment.run(given, *experiment.load(given), tmp_path / "result")
    text = (tmp_path / "result" / "metrics.json").read_text()
    assert json.loads(text)["test_auroc_mean"] is None
    assert math.isnan(result_files.read_metrics(tmp_path / "result")["test_auroc_mean"])


def test_a_result_that_another_process_made_meanwhile_is_kept(table, tmp_path):
    given = settings(table)
    loaded = experiment.load(given)
    experiment.run(given, *loaded, tmp_path / "result")
    before = (tmp_path / "result" / "metrics.json").stat().st_mtime_ns
    experiment.run(given, *loaded, tmp_path / "result")
    assert (tmp_path / "result" / "metrics.json").stat().st_mtime_ns == before
    assert [p.name for p in tmp_path.glob(".*")] == []


def test_digest_follows_settings_and_data_and_not_paths(table, tmp_path, planted):
    def digest(path=table, **keys):
        given = settings(path, **keys)
        return experiment_recipe.digest(given, experiment.load(given)[0])

    moved = tmp_path / "moved.parquet"
    moved.write_bytes(table.read_bytes())
    assert digest() == digest(moved) == digest(runtime={"cache": {"max_gib": 0}})
    other = write(tmp_path / "other.parquet", planted(num=30, seed=1))
    assert len({digest(), digest(other), digest(epochs=3), digest(seed=1)}) == 4


def test_folds_are_written(table, tmp_path):
    bags, splits = experiment.load(settings(table))
    experiment_result.write_folds(tmp_path / "folds.parquet", bags, splits)
    rows = pq.read_table(tmp_path / "folds.parquet").to_pylist()
    assert len(rows) == 3 * 30
    tested = [row["bag"] for row in rows if row["part"] == "test"]
    assert sorted(tested) == sorted(bags.names)


def job(table, out, **keys):
    raw = {"bags": str(table), "out": str(out), **QUICK, **keys}
    return config.validate(TrainJobConfig, raw)


def test_the_job_trains_once_and_logs_once(table, tmp_path, capsys):
    given = job(table, tmp_path / "out")
    check(given)
    assert not (tmp_path / "out").exists()
    run(given)
    assert "train: 3/3 models" in capsys.readouterr().out
    run(given)
    said = capsys.readouterr().out
    assert "already done" in said and "3/3 models" not in said and "test AUROC" in said
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    number = client.get_experiment_by_name("mshisto_ray").experiment_id
    (logged,) = client.search_runs([number])
    assert logged.data.params["pooling"] == "gated_attention"
    assert 0 <= logged.data.metrics["val_auroc"] <= 1
    with pytest.raises(InputError, match=r"another recipe \(epochs: 2 -> 5\)"):
        check(job(table, tmp_path / "out", epochs=5))


def test_what_is_trained_anew_in_the_same_folder_is_logged_too(table, tmp_path):
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'runs.db'}"
    for epochs in (2, 3):
        runtime = {"mlflow": {"uri": uri}}
        given = job(table, tmp_path / "out", epochs=epochs, runtime=runtime)
        run(given)
        shutil.rmtree(given.out)
    client = MlflowClient(tracking_uri=uri)
    number = client.get_experiment_by_name("mshisto_ray").experiment_id
    logged = client.search_runs([number])
    assert sorted(r.data.params["epochs"] for r in logged) == ["2", "3"]


def test_changed_labels_are_another_recipe(table, tmp_path, planted):
    run(job(table, tmp_path / "out"))
    bags = planted(num=30)
    labels = ["b", *[bags.classes[t] for t in bags.targets[1:]]]
    other = write(tmp_path / "relabelled.parquet", bags, labels)
    with pytest.raises(InputError, match=r"another recipe \(data: "):
        check(job(other, tmp_path / "out"))


@pytest.mark.parametrize(
    ("labels", "keys", "message"),
    [
        (["a"] * 30, {}, "only 'a' is left"),
        ([None] * 30, {}, "no labelled bag is left"),
        (["b", "b"] + ["a"] * 28, {}, r"class 'b' has 2 patients, fewer than split"),
        (["a", "b"] * 15, {"split": {"folds": 20}}, "has 15 patients, fewer than spl"),
        (["a", "b"] * 15, {"target": {"column": "grade"}}, "no column 'grade'"),
        (["a", "b"] * 15, {"early_stopping": {}, "split": {"validation": 0}},
         "early stopping needs validation bags"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_learned_are_refused(
    tmp_path, planted, labels, keys, message
):
    table = write(tmp_path / "bags.parquet", planted(num=30), labels)
    with pytest.raises(InputError, match=message):
        check(job(table, tmp_path / "out", **keys))
    assert not (tmp_path / "out").exists()


def test_some_missing_labels_are_left_out_and_noted(tmp_path, planted, capsys):
    labels = [None, None, *(["a", "b"] * 14)]
    table = write(tmp_path / "bags.parquet", planted(num=30), labels)
    run(job(table, tmp_path / "out"))
    said = capsys.readouterr().out
    assert "2 of 30 bags left out, no 'label': b0, b1" in said
    found = read_predictions(tmp_path / "out" / "result" / "predictions.parquet")
    assert len(found) == 28


@pytest.mark.slow
def test_musk1_is_learned(test_data, tmp_path):
    """Real bags: every pooling is far from chance (published accuracy about 0.89)."""
    table = test_data / "mil" / "musk1.parquet"
    keys = {
        "hidden": [256, 128, 64], "dropout": 0.5, "epochs": 30,
        "optimiser": {"name": "sgd", "lr": 2e-3, "weight_decay": 0.005},
    }  # fmt: skip
    for name in ("attention", "embedding_mean"):
        given = settings(table, pooling={"name": name}, **keys)
        metrics = experiment.run(given, *experiment.load(given), tmp_path / name)
        assert metrics["test_auroc_mean"] > 0.85
        assert metrics["test_accuracy_mean"] > 0.75


def test_recipes_name_the_key_that_differs(table):
    one = settings(table)
    bags, _ = experiment.load(one)
    two = settings(table, pooling={"name": "attention", "hidden": 4})
    found = differences(
        experiment_recipe.recipe(one, bags), experiment_recipe.recipe(two, bags)
    )
    assert found == [
        "pooling.hidden: 128 -> 4",
        "pooling.name: 'gated_attention' -> 'attention'",
    ]


@pytest.mark.parametrize("unit", ["slide", "patient"])
def test_embeddings_give_the_same_result_cached_or_not(
    make_embeddings, tmp_path, planted, unit
):
    bags = planted(num=36, largest=4)
    slides = {
        f"s{i}": {0.5: bags.features.read(i), 1.0: bags.features.read(i)[:2]}
        for i in range(36)
    }
    embeddings = make_embeddings(slides)
    lines = [f"s{i}.svs,p{i // 4 * 2 + i % 2},{'ab'[i % 2]}" for i in range(36)]
    lines[5] = "s5.svs,p5,"
    cohort = tmp_path / "cohort.csv"
    cohort.write_text("\n".join(["path,patient_id,label", *lines]))
    found = []
    for number, gib in enumerate((1, 0)):
        raw = {
            "embeddings": str(embeddings), "cohort": str(cohort), "unit": unit,
            "runtime": {"cache": {"dir": str(tmp_path / "cache"), "max_gib": gib}},
            **QUICK,
        }  # fmt: skip
        given = config.validate(experiment.ExperimentConfig, raw)
        folder = tmp_path / str(number)
        experiment.run(given, *experiment.load(given), folder)
        found.append(pq.read_table(folder / "predictions.parquet"))
    # The sum of a product depends in its last bits on where rows lie in memory.
    for column in found[0].column_names:
        one, two = (table[column].to_numpy() for table in found)
        if column.startswith("prob_"):
            np.testing.assert_allclose(one, two, rtol=1e-5)
        else:
            assert one.tolist() == two.tolist()
    rows = found[0].to_pylist()
    assert len(rows) == (35 if unit == "slide" else 18)
    if unit == "slide":
        assert {row["slide_id"] for row in rows} == set(slides) - {"s5"}
        assert all(row["bag"] == row["slide_id"] for row in rows)
    else:
        assert all(row["slide_id"] is None for row in rows)
        assert all(row["bag"] == row["patient_id"] for row in rows)
    head = load_head(tmp_path / "0" / "head")
    assert head.encoder == {"name": "drawn", "digest": "0"} and head.scale == 0.5
