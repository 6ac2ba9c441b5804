import csv
import re
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fixtures.killing import end_driver
from fixtures.pages import read_page
from fixtures.sweeps import (
    parent_and_children,
    results,
    runs,
    settings,
    write_bags,
)
from mlflow.tracking import MlflowClient

from mshisto_ray import config
from mshisto_ray.config import InputError
from mshisto_ray.jobs import sweep
from mshisto_ray.jobs._sweep_config import SweepConfig
from mshisto_ray.learning import result_files
from mshisto_ray.learning.comparison import compare
from mshisto_ray.learning.predictions import read_predictions
from mshisto_ray.mil import experiment
from mshisto_ray.mil.head import load_head
from mshisto_ray.tracking import fetch_model

SWEEP = Path(__file__).parents[2] / "jobs" / "sweep.py"
AXES = {
    "pooling": [{"name": "embedding_mean"}, {"name": "attention", "hidden": 8}],
    "noise.sigma": [0, 0.2],
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_bags(tmp_path_factory.mktemp("sweep") / "bags.parquet")


@pytest.fixture(scope="module")
def done(local_ray, table, tmp_path_factory):
    given = settings(table, tmp_path_factory.mktemp("sweep") / "out", axes=AXES)
    assert sweep.run(given) == 0
    return given


@pytest.mark.ray
def test_trials_equal_plain_python(done, tmp_path):
    points = sweep.sweep.expand(done, done.axes)
    found, _ = sweep.sweep.check(points, done.select)
    assert results(done.out).keys() == found.keys() and len(found) == 4
    for digest, point in found.items():
        bags, splits = experiment.load(point.config)
        experiment.run(point.config, bags, splits, tmp_path / digest)
        for name in ("predictions.parquet", "validation.parquet"):
            plain = pq.read_table(tmp_path / digest / name)
            assert plain.equals(pq.read_table(done.out / "configs" / digest / name))


@pytest.mark.ray
def test_all_configs_share_their_folds(done):
    folds = pq.read_table(done.out / "folds.parquet").to_pylist()
    tested = {(r["bag"], r["repeat"]): r["fold"] for r in folds if r["part"] == "test"}
    assert len(tested) == 2 * 36
    for path in results(done.out).values():
        p = read_predictions(path.parent / "predictions.parquet")
        rows = zip(p.bag, p.repeat, p.fold, strict=True)
        assert {(bag, int(r)): int(f) for bag, r, f in rows} == tested


@pytest.mark.ray
def test_the_best_on_validation_is_marked_and_kept(done):
    metrics = {d: result_files.read_metrics(p.parent) for d, p in
               results(done.out).items()}  # fmt: skip
    best = max(metrics.values(), key=lambda m: m["val_auroc_mean"])["val_auroc_mean"]
    lines = (done.out / "summary.md").read_text().splitlines()
    (chosen,) = [line for line in lines if "chosen**" in line]
    digest = chosen.strip("| ").split(" | ")[-1]
    assert metrics[digest]["val_auroc_mean"] == best
    low, high = (metrics[digest][f"test_auroc_ci_{end}"] for end in ("low", "high"))
    assert f"({low:.3f} to {high:.3f})" in chosen
    kept = load_head(done.out / "best").about
    head = load_head(done.out / "configs" / digest / "head").about
    assert kept == head and len(kept["models"]) == 6
    assert (done.out / "test_auroc.png").read_bytes()[:4] == b"\x89PNG"
    page = read_page(done.out / "report.html")
    assert {"cohort", "ranking", "result", "wrong"} <= set(page.sections)


def artifacts(run):
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    return {path.name for path in folder.iterdir()}


@pytest.mark.ray
def test_the_driver_logs_a_parent_with_a_child_per_config(done):
    parent, children = parent_and_children(done)
    assert sorted(child.info.run_name for child in children) == [
        "attention, noise .2", "attention, noise 0",
        "embedding_mean, noise .2", "embedding_mean, noise 0",
    ]  # fmt: skip
    for child in children:
        assert child.info.status == "FINISHED"
        assert set(child.data.metrics) <= {
            "val_auroc", "test_auroc", "test_pr_auc", "test_accuracy", "test_f1",
            "trained_share", "rank", "diff_to_chosen", "p_difference",
            "epoch_train_loss", "epoch_val_loss", "epoch_val_auroc",
        }  # fmt: skip
        assert set(child.data.params) == {"pooling", "noise.sigma"}
        assert artifacts(child) == {
            "config.yaml", "predictions.parquet", "intervals.csv",
            "roc_pr_calibration_confusion.png",
        }  # fmt: skip
    chosen, *others = sorted(children, key=lambda c: c.data.metrics["rank"])
    # Two epochs train hardly any of these models.
    assert chosen.data.tags["verdict"] == "chosen, hardly trained"
    assert {c.data.tags["verdict"].split(",")[0] for c in others} <= {
        "tied", "worse", "better"}  # fmt: skip
    assert chosen.data.metrics["diff_to_chosen"] == 0
    rows = csv.DictReader((done.out / "comparisons.csv").read_text().splitlines())
    gaps = sorted(float(row["difference"]) for row in rows)
    logged = sorted(c.data.metrics["diff_to_chosen"] for c in others)
    assert logged == pytest.approx(gaps, abs=1e-4)
    assert parent.data.tags["intervals"].startswith("95 % score intervals")


@pytest.mark.ray
def test_children_have_the_times_and_curves_of_their_training(done):
    parent, children = parent_and_children(done)
    client = MlflowClient(tracking_uri=f"sqlite:///{done.out.parent / 'mlflow.db'}")
    for child in children:
        digest = child.data.tags["mshisto_ray.result"].split()[-1]
        found = result_files.read_metrics(done.out / "configs" / digest)
        seconds = (child.info.end_time - child.info.start_time) / 1000
        assert seconds == pytest.approx(found["seconds"], abs=0.01)
        assert parent.info.start_time <= child.info.end_time <= parent.info.end_time
        history = client.get_metric_history(child.info.run_id, "epoch_val_loss")
        assert [point.step for point in history] == [1, 2]


@pytest.mark.ray
def test_the_parent_shows_summary_and_data_and_its_head_is_registered(done, capsys):
    assert sweep.run(done) == 0
    said = capsys.readouterr().out
    parent, children = parent_and_children(done)
    assert len(children) == 4
    note = parent.data.tags["mlflow.note.content"]
    assert "is chosen by val_auroc" in note and "# Sweep" in note
    assert "Probabilities differ from the shares that came true (ECE" in note
    assert {"summary.md", "noise.png", "test_auroc.png", "heads"} <= artifacts(parent)
    (data,) = parent.inputs.dataset_inputs
    assert data.dataset.name == "bags.parquet"
    (reference,) = re.findall("models:/\\S+", said)
    uri = f"sqlite:///{done.out.parent / 'mlflow.db'}"
    assert load_head(fetch_model(Path(reference), uri)).about == (
        load_head(done.out / "best").about
    )
    (version,) = MlflowClient(tracking_uri=uri).search_model_versions()
    assert version.run_id == parent.info.run_id
    with pytest.raises(InputError, match="which has mshisto_ray-out"):
        fetch_model(Path("models:/another@champion"), uri)


@pytest.mark.slow  # Ray Tune starts twice
@pytest.mark.ray
def test_another_value_of_an_axis_adds_its_children_to_the_same_parent(
    local_ray, table, tmp_path
):
    first = settings(table, tmp_path / "out", axes={"seed": [0, 1]})
    assert sweep.run(first) == 0
    parent, before = parent_and_children(first)
    more = {"seed": [0, 1, 2], "noise.sigma": [0, 0.2]}
    assert sweep.run(settings(table, tmp_path / "out", axes=more)) == 0
    again, after = parent_and_children(first)
    assert again.info.run_id == parent.info.run_id and len(after) == 6
    assert {c.info.run_id for c in before} < {c.info.run_id for c in after}
    assert {c.info.run_name for c in after} == {
        f"seed {seed}, noise {sigma}" for seed in range(3) for sigma in ("0", ".2")
    }
    assert all({"seed", "noise.sigma"} <= set(c.data.params) for c in after)
    assert sum(c.data.tags["chosen"] == "true" for c in after) == 1


@pytest.mark.ray
def test_every_other_config_is_compared_with_the_chosen_one(done):
    rows = csv.DictReader((done.out / "comparisons.csv").read_text().splitlines())
    rows = {row["config"]: row for row in rows}
    kept = load_head(done.out / "best").about
    (chosen,) = results(done.out).keys() - rows.keys()
    assert load_head(done.out / "configs" / chosen / "head").about == kept
    own, reference = (
        read_predictions(done.out / "configs" / d / "predictions.parquet")
        for d in (next(iter(rows)), chosen)
    )
    found = compare(own, reference)
    row = next(iter(rows.values()))
    assert float(row["difference"]) == found.difference.value
    assert float(row["p"]) == found.p <= float(row["p_holm"])
    text = (done.out / "summary.md").read_text()
    assert "Cannot be told apart from the chosen: " in text
    gap = found.difference
    assert f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})" in text


@pytest.mark.ray
def test_the_same_command_again_does_nothing_twice(done, capsys):
    before = {d: p.stat().st_mtime_ns for d, p in results(done.out).items()}
    assert sweep.run(done) == 0
    assert "4 of 4 configs already done" in capsys.readouterr().out
    assert {d: p.stat().st_mtime_ns for d, p in results(done.out).items()} == before
    assert len(runs(done)) == 5


@pytest.mark.ray
def test_a_config_that_diverges_is_named_and_nothing_is_chosen_without_select(
    local_ray, table, tmp_path, capsys
):
    given = settings(
        table,
        tmp_path / "out",
        axes={"optimiser.lr": [0.01, 1e30]},
        optimiser={"name": "sgd", "momentum": 0, "lr": 0.01},
        split={"folds": 3, "validation": 0},
        early_stopping=None,
        select=None,
    )
    assert sweep.run(given) == 1
    assert "failed: optimiser.lr=1e+30: training diverged" in capsys.readouterr().out
    assert len(results(given.out)) == 1
    parent, children = parent_and_children(given)
    assert parent.info.status == "FINISHED"
    states = {child.info.run_name: child.info.status for child in children}
    assert states == {"lr .01": "FINISHED", "lr 1e+30": "FAILED"}
    (failed,) = [c for c in children if c.info.status == "FAILED"]
    assert failed.data.tags["error"].startswith("training diverged")
    summary = (given.out / "summary.md").read_text()
    assert "1 configs have no result" in summary and "optimiser.lr=1e+30" in summary
    assert "chosen**" not in summary and "val_" not in summary
    assert "difference" not in summary
    assert not (given.out / "comparisons.csv").exists()
    assert not (given.out / "best").exists()
    page = read_page(given.out / "report.html")
    assert "result" not in page.sections and "none was chosen" in page.text
    assert "1 configs have no result" in page.text


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"axes": {"noise.sgima": [0]}}, "takes sigma; got 'sgima'"),
        ({"axes": {"pooling": [{"name": "topk"}]}}, "no 'topk' in poolings"),
        ({"split": {"folds": 40}}, "fewer than split.folds=40"),
        ({"split": {"validation": 0}, "early_stopping": None}, "select=null"),
        ({"target": {"column": "grade"}}, "no column 'grade'; have label"),
    ],
)
def test_wrong_input_is_refused_before_anything_starts(table, tmp_path, keys, message):
    given = settings(table, tmp_path / "out", **{"axes": AXES, **keys})
    with pytest.raises(InputError, match=message):
        sweep.check(given)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.ray
def test_a_killed_driver_resumes(tmp_path):
    table = write_bags(tmp_path / "bags.parquet", 60)
    out = tmp_path / "out"
    words = {
        "bags": table, "out": out, "axes": "{seed: [0, 1, 2, 3, 4, 5]}", "epochs": 20,
        "early_stopping": "null",
        # The configs of a pack end at the same step: two are done before the others.
        "runtime.pack": 2,
    }  # fmt: skip
    command = [sys.executable, str(SWEEP), *(f"{k}={v}" for k, v in words.items())]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while len(results(out)) < 2:
        assert driver.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    end_driver(driver)
    before = {d: p.stat().st_mtime_ns for d, p in results(out).items()}
    assert 2 <= len(before) < 6
    given = config.load(SweepConfig, None, config.parse_overrides(command[2:]))
    killed, _ = parent_and_children(given)
    assert killed.info.status == "RUNNING"  # the next run ends it
    said = subprocess.run(
        command, check=True, timeout=300, capture_output=True, text=True
    ).stdout
    assert f"{len(before)} of 6 configs already done" in said
    found = results(out)
    assert len(found) == 6
    for digest, time_ns in before.items():
        assert found[digest].stat().st_mtime_ns == time_ns, "done again"
    parent, children = parent_and_children(given)
    assert parent.info.run_id == killed.info.run_id
    assert {r.info.status for r in [parent, *children]} == {"FINISHED"}
    names = sorted(child.info.run_name for child in children)
    assert names == [f"seed {seed}" for seed in range(6)]
    points, _ = sweep.sweep.check(sweep.sweep.expand(given, given.axes), given.select)
    made_before, made_after = next(iter(before)), next(iter({*found} - {*before}))
    for digest in (made_before, made_after):
        given = points[digest].config
        experiment.run(given, *experiment.load(given), tmp_path / digest)
        plain = pq.read_table(tmp_path / digest / "predictions.parquet")
        again = pq.read_table(found[digest].parent / "predictions.parquet")
        assert plain.equals(again)
    assert (out / "summary.md").read_text().count("chosen**") == 1
    assert not list((out / "configs").glob(".*"))
