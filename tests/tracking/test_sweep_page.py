"""Runs of a sweep as its configs finish, their page, the chosen head."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from mshisto_ray.config import InputError
from mshisto_ray.tracking import (
    Charts,
    Child,
    Model,
    RunGroup,
    RunsView,
    describe,
    fetch_model,
    open_store,
    register_model,
    save_view,
)


def read(store, run_id):
    return MlflowClient(tracking_uri=store.uri).get_run(run_id)


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
    columns = ["tags.`verdict`", "metrics.`val_auroc`"]
    view = RunsView("abc", columns, "metrics.`val_auroc`", longest_name=20)
    page = save_view(store, view)
    key = page.rpartition("=")[2]
    found = MlflowClient(tracking_uri=store.uri).get_experiment(store.experiment_id)
    state = json.loads(found.tags[f"mlflow.sharedViewState.{key}"])
    assert state["selectedColumns"] == columns
    assert state["columnOrder"] == ["attributes.`Run Name`", *columns]
    assert 20 * 7 < state["columnWidths"]["attributes.`Run Name`"] < 250
    assert "compareRunCharts" not in state
    assert state["searchFilter"] == "tags.`mlflow.parentRunId` = 'abc'"
    wanted = f"http://127.0.0.1:5000/#/experiments/{store.experiment_id}/runs?workflow"
    assert store.address(page).startswith(wanted)


def test_a_view_shows_its_charts_and_hides_those_of_no_use(store):
    charts = Charts(
        "Which?", ["pooling"], ("val_auroc", "test_auroc"), ["diff"], ["rank"], 24
    )
    many = replace(charts, runs=200)
    states = []
    for parent, shown in (("few", charts), ("many", many)):
        page = save_view(store, RunsView(parent, [], "metrics.`rank`", charts=shown))
        client = MlflowClient(tracking_uri=store.uri)
        tags = client.get_experiment(store.experiment_id).tags
        key = page.rpartition("=")[2]
        states.append(json.loads(tags[f"mlflow.sharedViewState.{key}"]))
    few, _ = states
    (section,) = few["compareRunSections"]
    cards = {card["uuid"]: card for card in few["compareRunCharts"]}
    assert len(cards) == 4 and section["name"] == "Which?"
    assert {card["metricSectionId"] for card in cards.values()} == {section["uuid"]}
    shown = [card["type"] for card in cards.values() if not card["deleted"]]
    assert shown == ["PARALLEL", "SCATTER", "BAR"]
    assert cards["comparison-rank"]["metricKey"] == "rank"
    modes = [state["runsHiddenMode"] for state in states]
    assert modes == ["SHOW_ALL", "FIRST_20_RUNS"]


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
