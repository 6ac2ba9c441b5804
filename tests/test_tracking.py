import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from mshisto_ray import config, tracking
from mshisto_ray.config import InputError
from mshisto_ray.tracking import (
    Child,
    Model,
    RunGroup,
    RunsView,
    describe,
    fetch_model,
    flatten,
    open_store,
    register_model,
    save_view,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return open_store(None, tmp_path_factory.mktemp("out"), "tests")


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
    store = open_store(None, tmp_path / "out", "tests")
    for result in ("first", "first", "second", "first"):
        store.log_once(result, result, {}, {"tiles": 3})
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
    run_id = store.log_run("pretrained", {}, {}, curve=curve)
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


def test_reopening_finds_the_same_experiment(store):
    out = Path(store.uri.removeprefix("sqlite:///")).parent
    again = open_store(store.uri, out / "elsewhere", "tests")
    assert again.experiment_id == store.experiment_id
    assert not (out / "elsewhere").exists()
    assert open_store(None, out, "others").experiment_id != store.experiment_id


def test_code_version_is_tagged(store):
    run = read(store, store.log_run("v", {}, {}))
    assert run.data.tags["mshisto_ray.version"]
    if (Path(__file__).parents[1] / ".git").exists():
        commit = run.data.tags["mlflow.source.git.commit"]
        assert len(commit.removesuffix("-dirty")) == 40


@pytest.mark.parametrize(
    ("uri", "fix"),
    [
        ("sqlite:///mlflow.db", "sqlite:////absolute"),
        ("./mlruns", "sqlite:////absolute"),
        ("file:///tmp/mlruns", "sqlite:////absolute"),
        ("http://127.0.0.1:1", "start it"),
    ],
)
def test_stores_that_cannot_be_used_are_refused(uri, fix, tmp_path):
    with pytest.raises(InputError, match=fix) as caught:
        open_store(uri, tmp_path, "tests")
    assert "\n" not in str(caught.value)


def test_deleted_experiment_is_refused(store, tmp_path):
    client = MlflowClient(tracking_uri=store.uri)
    client.delete_experiment(open_store(store.uri, tmp_path, "deleted").experiment_id)
    with pytest.raises(InputError, match="restore -x"):
        open_store(store.uri, tmp_path, "deleted")


def test_importing_the_module_leaves_mlflow_alone():
    code = "import sys, mshisto_ray.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_jobs_of_a_project_share_the_database_beside_their_folders(tmp_path):
    wanted = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert tracking.default_uri(tmp_path / "tiles") == wanted
    assert tracking.default_uri(tmp_path / "sweep") == wanted
    assert tracking.default_uri(Path("/results")).endswith("/mlflow.db")


def test_a_database_inside_a_folder_is_used_further(tmp_path):
    inside = tmp_path / "tiles" / "mlflow.db"
    inside.parent.mkdir()
    inside.touch()
    assert tracking.default_uri(tmp_path / "tiles") == f"sqlite:///{inside}"


def test_a_moved_database_finds_its_artifacts_and_its_results(tmp_path):
    note = tmp_path / "note.txt"
    note.write_text("kept")
    old, new = tmp_path / "old place", tmp_path / "new's place"
    run_id = open_store(None, old / "tiles", "tests").log_run(
        "tile", {}, {}, artifacts=[note]
    )
    open_store(None, old / "tiles", "tests").log_once("r", "once", {}, {})
    old.rename(new)
    moved = open_store(None, new / "tiles", "tests")
    client = MlflowClient(tracking_uri=moved.uri)
    assert Path(client.download_artifacts(run_id, "note.txt")).read_text() == "kept"
    moved.log_once("r", "once", {}, {})
    assert len(client.search_runs([moved.experiment_id])) == 2
    later = moved.log_run("later", {}, {}, artifacts=[note])
    assert (new / "mlartifacts" / later / "artifacts" / "note.txt").is_file()
    assert not old.exists()


@pytest.mark.slow
def test_processes_may_create_one_database_together(tmp_path):
    code = (
        "import sys, pathlib\nfrom mshisto_ray.tracking import open_store\n"
        "s = open_store(sys.argv[1], pathlib.Path('/nowhere'), 'shared')\n"
        "[s.log_run(f'r{i}', {'i': i}, {'m': i}) for i in range(4)]\n"
    )
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    command = [sys.executable, "-c", code, uri]
    workers = [subprocess.Popen(command) for _ in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4
    store = open_store(uri, tmp_path, "shared")
    runs = MlflowClient(tracking_uri=uri).search_runs([store.experiment_id])
    assert len(runs) == 16


@pytest.mark.slow
def test_view_command_serves_the_experiment(store, tmp_path):
    store.log_run("seen", {"a": 1}, {"m": 0.5}, {"key": "seen"})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = f"exec {store.view_command()} --host 127.0.0.1 --port {port} --workers 1"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command,
            shell=True,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/health", server)
        with urllib.request.urlopen(
            f"{url}/api/2.0/mlflow/experiments/get-by-name?experiment_name=tests"
        ) as answer:
            experiment = json.load(answer)["experiment"]
        assert experiment["experiment_id"] == store.experiment_id
        assert_served_store_works(url, tmp_path)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def assert_served_store_works(url, tmp_path):
    served = open_store(url, tmp_path, "tests")
    assert served.find_run("key", "seen")
    assert served.view_command().startswith(url)
    own = open_store(url, tmp_path, "through the server")
    note = tmp_path / "note.txt"
    note.write_text("hello")
    run_id = own.log_run("remote", {"b": 2}, {"m": 1.0}, {"k": "v"}, [note])
    assert own.find_run("k", "v") == run_id
    got = MlflowClient(tracking_uri=url).download_artifacts(run_id, "note.txt")
    assert Path(got).read_text() == "hello"
    assert tracking.check_uri(url) is None


def wait_for(url, server, seconds=300):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert server.poll() is None, "the server ended"
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"{url} did not answer in {seconds} s")


def child(name="one", status="FINISHED", **keys):
    return Child(name, {"seed": "1"}, (100.0, 103.5), status=status, **keys)


def listed(store):
    found = MlflowClient(tracking_uri=store.uri).search_runs([store.experiment_id])
    return {run.info.run_name: run for run in found}


def test_a_child_is_written_once_and_a_failed_one_is_replaced(tmp_path):
    store = open_store(None, tmp_path / "out", "tests")
    group = RunGroup(store, "sweep")
    assert listed(store)["out"].info.status == "RUNNING"
    group.write("config a", child(metrics={"val_auroc": 0.5}))
    group.write("config b", child("two", "FAILED", tags={"error": "diverged"}))
    group.end("FAILED")
    half = store.log_run("half", {}, {}, parent=group.parent, status="RUNNING")

    store = open_store(None, tmp_path / "out", "tests")
    again = RunGroup(store, "sweep")
    assert again.parent == group.parent and half not in listed(store)
    assert again.is_finished("config a") and not again.is_finished("config b")
    again.write("config b", child("two"))
    again.amend("config a", "renamed", {"seed": "1", "x": "2"}, {"diff": 0}, {})
    again.end("FINISHED")
    found = listed(store)
    assert found.keys() == {"out", "renamed", "two"}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert found["renamed"].data.params == {"seed": "1", "x": "2"}
    assert found["renamed"].data.metrics == {"val_auroc": 0.5, "diff": 0}
    assert (found["two"].info.start_time, found["two"].info.end_time) == (
        100000,
        103500,
    )


def test_a_view_is_kept_in_the_experiment_and_addressed(store):
    view = RunsView("abc", ["metrics.`val_auroc`"], "metrics.`val_auroc`")
    page = save_view(store, view)
    key = page.rpartition("=")[2]
    found = MlflowClient(tracking_uri=store.uri).get_experiment(store.experiment_id)
    state = json.loads(found.tags[f"mlflow.sharedViewState.{key}"])
    assert state["selectedColumns"] == ["metrics.`val_auroc`"]
    assert state["searchFilter"] == "tags.`mlflow.parentRunId` = 'abc'"
    wanted = f"http://127.0.0.1:5000/#/experiments/{store.experiment_id}/runs?workflow"
    assert store.address(page).startswith(wanted)


def test_a_long_description_is_cut_after_a_line(store):
    run_id = store.log_run("long", {}, {})
    describe(store, run_id, "a line of text\n" * 1000)
    note = read(store, run_id).data.tags["mlflow.note.content"]
    lines = note.splitlines()
    assert len(note) < 8000 and set(lines[:-2]) == {"a line of text"}
    assert lines[-1].startswith("(cut")


def test_the_champion_is_found_by_name_also_after_a_move(tmp_path):
    store = open_store(None, tmp_path / "old" / "sweep", "tests")
    run_id = store.log_run("sweep", {}, {})
    for text in ("first", "second", "first"):
        head = tmp_path / "head"
        head.mkdir(exist_ok=True)
        (head / "model.json").write_text(text)
        model = Model("tests/x", head, text, 4, ("a", "b"), "about")
        reference = register_model(store, run_id, model)
    assert reference == "models:/tests-x@champion"
    (tmp_path / "old").rename(tmp_path / "new")
    uri = f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"
    folder = fetch_model(Path(reference), uri)
    assert (folder / "model.json").read_text() == "first"
    assert "probabilities" in (folder / "MLmodel").read_text()
    second = fetch_model(Path("models:/tests-x/2"), uri)
    assert (second / "model.json").read_text() == "second"
    assert fetch_model(head, uri) == head
    for wrong, message in (
        ("models:/tests-x@best", "which has tests-x"),
        ("models:/tests-x", "give models:/NAME@champion"),
    ):
        with pytest.raises(InputError, match=message):
            fetch_model(Path(wrong), uri)
    with pytest.raises(InputError, match="no such database"):
        fetch_model(Path(reference), f"sqlite:///{tmp_path / 'gone.db'}")
