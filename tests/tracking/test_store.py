"""What a run holds."""

import math
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from mshisto_ray import config, tracking
from mshisto_ray.config import InputError
from mshisto_ray.tracking import (
    Course,
    ResultRun,
    flatten,
    open_store,
)


def read(store, run_id):
    return MlflowClient(tracking_uri=store.uri).get_run(run_id)


def test_run_is_written_whole(store, tmp_path):
    plot = tmp_path / "plot.txt"
    plot.write_text("a plot")
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "t.csv").write_text("1")
    run_id = store.log_run(
        "gated",
        {"pooling": {"name": "gated_attention", "hidden": 8}, "split": {"seed": 3}},
        {"val_auroc_mean": 0.75},
        {"cohort": "abc"},
        [plot, folder],
    )
    run = read(store, run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "gated"
    assert run.data.params == {
        "pooling": "gated_attention",
        "pooling.hidden": "8",
        "split.seed": "3",
    }
    assert run.data.metrics == {"val_auroc_mean": 0.75}
    assert run.data.tags["cohort"] == "abc"
    artifacts = Path(store.uri.removeprefix("sqlite:///")).parent / "mlartifacts"
    kept = artifacts / run_id / "artifacts"
    assert (kept / "plot.txt").read_text() == "a plot"
    assert (kept / "tables" / "t.csv").read_text() == "1"


def test_a_result_is_logged_once(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    store = open_store(None, out, "tests")
    run = ResultRun(lambda: store, store.uri, "tests", out)
    for result in ("first", "first", "second", "first"):
        run.log(result, result, {}, {"tiles": 3})
    runs = MlflowClient(tracking_uri=store.uri).search_runs([store.experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["first", "second"]


def test_a_run_that_a_killed_driver_left_is_ended_by_the_next(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    one = open_store(uri, tmp_path / "one's", "tests")
    left = one.log_run("left", {}, {}, status="RUNNING")
    done = one.log_run("done", {}, {})
    other = open_store(uri, tmp_path / "other", "tests")
    assert read(one, left).info.status == "RUNNING"  # perhaps another job is at it
    running = other.log_run("running", {}, {}, status="RUNNING")
    open_store(uri, tmp_path / "one's", "tests")
    found = [read(one, run).info.status for run in (left, done, running)]
    assert found == ["KILLED", "FINISHED", "RUNNING"]


def test_a_password_is_nowhere_shown():
    uri = "http://me:secret@127.0.0.1:1/mlflow"
    given = config.validate(tracking.TrackingConfig, {"uri": uri})
    assert given.uri == uri
    shown = "http://me:***@127.0.0.1:1/mlflow"
    assert given.model_dump(mode="json")["uri"] == shown
    assert config.to_yaml(given).startswith(f"uri: {shown}\n")
    with pytest.raises(InputError) as error:
        tracking.check_uri(uri)
    assert "secret" not in str(error.value) and shown in str(error.value)


def test_a_curve_is_logged_by_step_without_what_is_not_finite(store):
    curve = [{"step": 0.0, "val_auc": 0.5}, {"step": 10.0, "loss": math.nan}]
    curve.append({"step": 20.0, "loss": 2.0, "val_auc": 0.75})
    run_id = store.log_run("pretrained", {}, {}, course=Course(curve=curve))
    client = MlflowClient(tracking_uri=store.uri)
    found = client.get_metric_history(run_id, "val_auc")
    assert sorted((m.step, m.value) for m in found) == [(0, 0.5), (20, 0.75)]
    (loss,) = client.get_metric_history(run_id, "loss")
    assert (loss.step, loss.value) == (20, 2.0)
    assert read(store, run_id).data.metrics == {"val_auc": 0.75, "loss": 2.0}


def test_children_are_found_by_their_parent(store):
    parent = store.log_run("sweep", {}, {}, status="RUNNING")
    children = {store.log_run(f"c{i}", {}, {}, parent=parent) for i in range(3)}
    assert read(store, parent).info.status == "RUNNING"
    store.update_run(parent, {"best": 1.0})
    found = MlflowClient(tracking_uri=store.uri).search_runs(
        [store.experiment_id], filter_string=f"tags.mlflow.parentRunId = '{parent}'"
    )
    assert {run.info.run_id for run in found} == children
    assert read(store, parent).info.status == "FINISHED"
    assert read(store, parent).data.metrics == {"best": 1.0}


def test_find_run_sees_complete_runs_and_no_failed_ones(store):
    tags = {"config": "it's one"}
    assert store.find_run("config", tags["config"]) is None
    store.log_run("a", {}, {}, tags, status="FAILED")
    assert store.find_run("config", tags["config"]) is None
    second = store.log_run("b", {}, {}, tags)
    assert store.find_run("config", tags["config"]) == second
    assert store.find_run("config", "another") is None


def test_interrupted_run_is_not_found(store, tmp_path):
    with pytest.raises(OSError, match="gone"):
        store.log_run("cut", {}, {}, {"config": "cut"}, [tmp_path / "gone"])
    assert store.find_run("config", "cut") is None


def test_metrics_that_are_not_finite_are_named(store):
    metrics = {"a": math.nan, "b": 1.0, "c": -math.inf}
    run = read(store, store.log_run("nan", {}, metrics))
    assert run.data.metrics == {"b": 1.0}
    assert run.data.tags["metrics_not_finite"] == "a, c"


def test_long_values_many_params_and_odd_names(store):
    params = {f"p{i}": i for i in range(250)} | {"long": "x" * 9000}
    metrics = {"prob_HER2+": 0.1, "prob_HER2?": 0.2, "a/b": 0.3, "x" * 300: 0.4}
    metrics |= {f"m{i}": float(i) for i in range(1500)}
    run = read(store, store.log_run("odd", params, metrics))
    assert len(run.data.params) == 251
    assert len(run.data.params["long"]) == 6000
    assert run.data.params["long"].endswith("... (9000 characters)")
    assert {key: v for key, v in run.data.metrics.items() if key[0] != "m"} == {
        "prob_HER2_": 0.1,
        "prob_HER2__": 0.2,
        "a_b": 0.3,
        "x" * 250: 0.4,
    }
    assert run.data.metrics["m1499"] == 1499.0


def test_flatten_speaks_the_grammar_of_overrides():
    params = {
        "noise": {"name": "gaussian", "sigma": 0.1, "inner": {"name": "x", "k": None}},
        "scales": [0.5, 1.0],
        "out": Path("/a"),
        "refit": True,
        "empty": {},
    }
    assert flatten(params) == {
        "noise": "gaussian",
        "noise.sigma": "0.1",
        "noise.inner": "x",
        "noise.inner.k": "null",
        "scales": "[0.5, 1.0]",
        "out": "/a",
        "refit": "true",
        "empty": "{}",
    }
