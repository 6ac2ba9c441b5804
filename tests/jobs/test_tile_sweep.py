"""A sweep of heads on tiles: kind of noise, strength, views and head."""

import csv
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fixtures.killing import end_driver
from fixtures.pages import read_page
from mlflow.tracking import MlflowClient

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.jobs import sweep
from mshisto_ray.jobs._sweep_config import AnySweepConfig, SweepConfig, TileSweepConfig
from mshisto_ray.jobs._sweep_reruns import cost_of
from mshisto_ray.learning.comparison import compare
from mshisto_ray.learning.result_files import read_metrics
from mshisto_ray.learning.tile_metrics import tile_metrics
from mshisto_ray.mil.loading import open_head

SWEEP = Path(__file__).parents[2] / "jobs" / "sweep.py"
SLIDES = [f"s{i}" for i in range(9)]
CLASSES = ["tumour"] * 18 + ["normal"] * 18


def embed(table, signal=1.2):
    row = table["row"].to_numpy().astype(float)
    col = table["col"].to_numpy().astype(float)
    number = np.full(len(row), float(table["slide_id"][0].as_py()[1:]))
    noise = np.sin(7 * row + 13 * col + number)
    half = np.where(row < row.max() / 2, 1.0, -1.0)
    return np.stack([signal * half + 2 * noise, np.cos(col + number), noise**2], axis=1)


@pytest.fixture(scope="module")
def stage(make_stages, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    stages = make_stages(folder)
    tiles = stages.tiles(dict.fromkeys(SLIDES, CLASSES))
    one = stages.embeddings(embed, "one")
    two = stages.embeddings(lambda table: embed(table, 0.2), "two")
    return tiles, one, two, folder


def keys(stage, out, **more):
    tiles, one, two, folder = stage
    fine = {"embeddings": str(one), "mpp": 0.5}
    return {
        "task": "tile",
        "tiles": str(tiles),
        "out": str(out),
        "target": {"column": "annotation"},
        "views": [fine],
        "axes": {
            "noise": ["gaussian", "covariance"],
            "noise.sigma": [0.1, 1],
            "views": [[fine], [fine, {"embeddings": str(two), "mpp": 1.0}]],
            "hidden": [[], [4]],
        },
        "split": {"folds": 3, "validation": 0.25},
        "epochs": 4,
        "batch_size": 16,
        "lr": 0.02,
        "runtime": {
            "cache": {"dir": str(folder / "cache"), "max_gib": 1},
            "actors": 1,
        },
    } | more


def settings(stage, out, **more):
    return configs.load(AnySweepConfig, None, keys(stage, out, **more))


@pytest.fixture(scope="module")
def done(local_ray, stage, tmp_path_factory):
    given = settings(stage, tmp_path_factory.mktemp("sweep") / "out")
    assert isinstance(given, TileSweepConfig)
    assert sweep.run(given) == 0
    return given


def points_of(given):
    return sweep.sweep.check(sweep.sweep.expand(given, given.axes), given.chosen_by)[0]


def runs(given):
    uri = f"sqlite:///{given.out.parent / 'mlflow.db'}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own deprecations
        client = MlflowClient(tracking_uri=uri)
        number = client.get_experiment_by_name("mshisto_ray").experiment_id
        return client.search_runs([number])


def test_the_task_decides_the_keys(stage, tmp_path):
    assert isinstance(settings(stage, tmp_path / "out"), TileSweepConfig)
    mil = configs.load(AnySweepConfig, None, {"bags": "b.parquet", "out": "x"})
    assert isinstance(mil, SweepConfig) and mil.task == "mil"
    with pytest.raises(InputError, match=r"task: mil .* or tile .* got 'slides'"):
        configs.load(AnySweepConfig, None, {"task": "slides"})
    given = keys(stage, tmp_path / "out", views=None)
    assert settings(stage, tmp_path / "out", views=None).views is not None
    del given["axes"]["views"]
    with pytest.raises(InputError, match="give embeddings, or views"):
        configs.load(AnySweepConfig, None, given)
    with pytest.raises(InputError, match="pooling: unknown key"):
        settings(stage, tmp_path / "out", pooling="attention")


@pytest.mark.slow  # a sweep of its own; that of bags is in test_sweep
@pytest.mark.ray
def test_trials_equal_plain_python(done, tmp_path):
    points = points_of(done)
    assert {p.name for p in (done.out / "configs").iterdir()} == set(points)
    assert len(points) == 16
    for digest, point in list(points.items())[::5]:
        point.config.train(point.config.load(), tmp_path / digest, lambda a, b: None)
        for name in ("predictions.parquet", "validation.parquet"):
            plain = pq.read_table(tmp_path / digest / name)
            assert plain.equals(pq.read_table(done.out / "configs" / digest / name))


@pytest.mark.slow
@pytest.mark.ray
def test_metrics_are_those_of_the_predictions(done):
    for digest in list(points_of(done))[:2]:
        folder = done.out / "configs" / digest
        metrics = read_metrics(folder)
        for part, name in (("test", "predictions"), ("val", "validation")):
            table = pq.read_table(folder / f"{name}.parquet")
            values = np.stack([table["prob_normal"], table["prob_tumour"]], 1)
            truth = (np.array(table["target"].to_pylist()) == "tumour").astype(int)
            patients = np.array(table["patient_id"].to_pylist())
            found = tile_metrics(values, truth, patients)
            for metric in ("balanced_accuracy", "kappa", "auroc"):
                interval = found.interval(metric)
                ends = (f"{part}_{metric}_{e}" for e in ("mean", "ci_low", "ci_high"))
                given = [metrics[key] for key in ends]
                assert given == [interval.value, interval.low, interval.high]


@pytest.mark.slow
@pytest.mark.ray
def test_the_best_is_compared_kept_and_shown(done):
    found = {d: read_metrics(done.out / "configs" / d) for d in points_of(done)}
    best = max(m["val_balanced_accuracy_mean"] for m in found.values())
    rows = list(csv.DictReader((done.out / "comparisons.csv").read_text().splitlines()))
    assert len(rows) == 15
    (chosen,) = found.keys() - {row["config"] for row in rows}
    assert found[chosen]["val_balanced_accuracy_mean"] == best
    config = points_of(done)[chosen].config
    other = rows[0]["config"]
    one, two = (config.read_test(done.out / "configs" / d) for d in (other, chosen))
    gap = compare(one, two, "balanced_accuracy").difference
    assert float(rows[0]["difference"]) == gap.value
    assert float(rows[0]["low"]) == gap.low
    head = open_head(done.out / "best")
    assert head.classes == ("normal", "tumour") and len(head.models) == 3
    summary = (done.out / "summary.md").read_text()
    assert "val_balanced_accuracy" in summary and "test_kappa" in summary
    assert "one 0.5 + two 1" in summary
    page = read_page(done.out / "report.html")
    assert {"cohort", "ranking", "result", "wrong"} <= set(page.sections)
    assert "a tile; its class is from its annotation" in page.text
    assert "level of feature noise" in page.text
    assert (done.out / "noise.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
@pytest.mark.ray
def test_mlflow_has_a_child_per_config_with_its_axes_and_curve(done):
    logged = runs(done)
    (parent,) = [r for r in logged if "mlflow.parentRunId" not in r.data.tags]
    children = [r for r in logged if r is not parent]
    assert len(children) == 16
    for child in children:
        assert {"val_balanced_accuracy", "test_balanced_accuracy", "test_kappa"} <= set(
            child.data.metrics
        )
        axes = {"noise", "noise.sigma", "views", "hidden"}
        assert axes <= set(child.data.params)
    names = {child.info.run_name for child in children}
    assert len(names) == 16 and any(n.startswith("gaussian, noise .1") for n in names)
    folder = Path(parent.info.artifact_uri.removeprefix("file://"))
    assert {"summary.md", "noise.png", "report.html"} <= {
        p.name for p in folder.iterdir()
    }
    (data,) = {d.dataset.name for d in parent.inputs.dataset_inputs} - {"two", "tiles"}
    assert data == "one"


AGAIN = {"refits": 3, "permutations": 2, "learning_curve": [0.4, 0.7]}
FEW = {"axes": {"hidden": [[], [4]]}}


def test_the_cost_is_said_before_the_start(stage, tmp_path):
    given = settings(stage, tmp_path / "out", **FEW, **AGAIN)
    assert cost_of(given, 2, 3) == (
        "beside 6 models of 2 configs it trains 24 (6 of refits, 6 of learning curve, "
        "12 of permutations), in all 5.0 times as many"
    )
    assert cost_of(settings(stage, tmp_path / "out", **FEW), 2, 3) is None


@pytest.mark.slow  # what is trained is in tests/tile_classification/head
@pytest.mark.ray
def test_heads_are_trained_again_once_and_shown(local_ray, stage, tmp_path, capsys):
    given = settings(stage, tmp_path / "out", **FEW, **AGAIN)
    sweep.check(given)
    assert sweep.run(given) == 0
    said = capsys.readouterr().out
    assert "in all 5.0 times as many" in said and "6/6 trained again" in said
    text = (given.out / "summary.md").read_text()
    assert "Trained and chosen anew on 3 redraws" in text
    assert "## Learning curve" in text and "## Permuted labels" in text
    assert "and of where in a patient a class lies" in text
    assert "curve" in read_page(given.out / "report.html").sections
    lost = next(given.out.glob("configs/*/permuted/balanced_accuracy-1.json"))
    before = lost.read_text()
    lost.unlink()
    assert sweep.run(given) == 0
    assert "1/1 trained again" in capsys.readouterr().out
    assert lost.read_text() == before
    assert (given.out / "summary.md").read_text() == text


@pytest.mark.slow  # which configs are pruned is in tests/learning/sweep
@pytest.mark.ray
def test_heads_are_pruned(local_ray, stage, tmp_path):
    axes = {"lr": [0.02, 1e-9], "hidden": [[], [4]]}
    prune = {"grace": 1, "reduction": 2}
    given = settings(stage, tmp_path / "out", axes=axes, prune=prune)
    assert sweep.run(given) == 0
    text = (given.out / "summary.md").read_text()
    assert "configs were pruned" in text and "pruned after 1 of 3 models" in text
    assert "1e-09" not in text[: text.index("configs were pruned")]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"refits": 5, "select": None}, "refits: 5 choose a config by validation"),
        ({"permutations": 5, "split": {"folds": 3, "validation": 0}, "patience": None},
         "permutations: 5 choose a config by validation"),
        ({"prune": {}, "select": None}, "prune: decides by validation"),
        ({"learning_curve": [0.5, 70], **FEW}, "learns from 6 patients"),
        ({"axes": {"noise.sgima": [0]}}, "takes sigma; got 'sgima'"),
        ({"axes": {"target.column": ["label"]}}, "has to be the same for all configs"),
        ({"axes": {"reduction": ["none", {"name": "pca", "dim": 9}]}},
         "at reduction=pca.*: pca to 9 needs"),
        ({"select": "accuracy"}, "select: target.kind=tile classes has balanced_acc"),
        ({"split": {"folds": 3, "validation": 0}, "patience": None},
         "validation is 0.*select=null"),
    ],
)  # fmt: skip
def test_wrong_input_is_refused_before_anything_starts(stage, tmp_path, more, message):
    with pytest.raises(InputError, match=message):
        sweep.check(settings(stage, tmp_path / "out", **more))
    assert not (tmp_path / "out").exists()


def test_points_with_other_tiles_are_refused(stage, tmp_path):
    fine, coarse = ([{"embeddings": str(stage[1]), "mpp": m}] for m in (0.5, 1.0))
    given = settings(
        stage, tmp_path / "out", axes={"views": [fine, coarse]},
        target={"column": "label"}, cohort=str(cohort(tmp_path)),
    )  # fmt: skip
    with pytest.raises(
        InputError, match=r"at views=one 1: tiles of 1 um/px, and of 0\.5"
    ):
        sweep.check(given)


def cohort(folder):
    path = folder / "cohort.csv"
    rows = [f"{s}.tiff,{s},{'ab'[i % 2]}" for i, s in enumerate(SLIDES)]
    path.write_text("path,slide_id,label\n" + "\n".join(rows) + "\n")
    return path


@pytest.mark.slow
@pytest.mark.ray
def test_a_killed_driver_resumes(stage, tmp_path):
    out = tmp_path / "out"
    given = keys(stage, out, epochs=60, patience=None)
    command = [sys.executable, str(SWEEP)]
    command += [f"{key}={json.dumps(value)}" for key, value in given.items()]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 900

    def finished():
        return {p.parent.name: p for p in (out / "configs").glob("*/metrics.json")}

    while len(finished()) < 3:
        assert driver.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    end_driver(driver)
    before = {d: p.stat().st_mtime_ns for d, p in finished().items()}
    assert 3 <= len(before) < 16
    said = subprocess.run(
        command, check=True, timeout=900, capture_output=True, text=True
    ).stdout
    assert f"{len(before)} of 16 configs already done" in said
    assert len(finished()) == 16
    for digest, time_ns in before.items():
        assert finished()[digest].stat().st_mtime_ns == time_ns, "done again"
    points = points_of(settings(stage, out, epochs=60, patience=None))
    for digest in (next(iter(before)), next(iter({*points} - {*before}))):
        point = points[digest].config
        point.train(point.load(), tmp_path / digest, lambda a, b: None)
        plain = pq.read_table(tmp_path / digest / "predictions.parquet")
        again = pq.read_table(out / "configs" / digest / "predictions.parquet")
        assert plain.equals(again)
    assert (out / "noise.png").is_file() and not list((out / "configs").glob(".*"))
