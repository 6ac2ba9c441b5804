"""Sweeps that search, prune and stop, with Ray Tune."""

import json
import math
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from fixtures.killing import end_driver, name_of
from fixtures.sweeps import parent_and_children, results, settings, write_bags

from mshisto_ray import config
from mshisto_ray.jobs import sweep
from mshisto_ray.jobs._sweep_config import SweepConfig
from mshisto_ray.learning import result_files
from mshisto_ray.learning.sweep.point_source import PointSource
from mshisto_ray.mil import experiment

SWEEP = Path(__file__).parents[2] / "jobs" / "sweep.py"
RATE = {"low": 1e-4, "high": 0.1, "log": True}
AXES = {
    "pooling": ["attention", "embedding_max"],
    "pooling.hidden": [4, 8],
    "optimiser.lr": RATE,
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_bags(tmp_path_factory.mktemp("search") / "bags.parquet")


@pytest.fixture(scope="module")
def pruned(local_ray, table, tmp_path_factory):
    """Rates from none to good: what learns nothing is pruned."""
    given = settings(
        table,
        tmp_path_factory.mktemp("search") / "out",
        axes={"optimiser.lr": [0.02, 0.05, 1e-9, 0.03, 2e-9, 3e-9]},
        split={"folds": 4},
        prune={"grace": 1, "reduction": 3},
        epochs=6,
    )
    assert sweep.run(given) == 0
    return given


@pytest.mark.ray
def test_pruned_configs_are_recorded_and_no_candidates(pruned):
    records = {p.stem: json.loads(p.read_text()) for p in
               (pruned.out / "pruned").glob("*.json")}  # fmt: skip
    done = results(pruned.out)
    assert records and len(done) + len(records) == 6 and not {*done} & {*records}
    text = (pruned.out / "summary.md").read_text()
    assert f"{len(records)} configs were pruned: their first models" in text
    for record in records.values():
        num = len(record["values"])
        assert num in (1, 3) and record["total"] == 4
        assert f"pruned after {num} of 4 models, validation AUROC 0." in text
    assert "configs have no result" not in text
    _, children = parent_and_children(pruned)
    states = sorted(child.info.status for child in children)
    assert states == ["FINISHED"] * len(done) + ["KILLED"] * len(records)
    killed = [c for c in children if c.info.status == "KILLED"]
    assert {c.data.tags["verdict"] for c in killed} == {"pruned"}
    assert not any(c.data.metrics for c in killed)


@pytest.mark.ray
def test_what_goes_on_is_as_without_pruning_and_what_stops_had_its_values(
    pruned, tmp_path
):
    points, _ = sweep.sweep.check(
        sweep.sweep.expand(pruned, pruned.axes), pruned.chosen_by
    )
    kept, gone = results(pruned.out), pruned.out / "pruned"
    stopped = next(gone.glob("*.json"))
    for digest in (next(iter(kept)), stopped.stem):
        point = points[digest].config
        experiment.run(point, *experiment.load(point), tmp_path / digest)
    (digest, path), *_ = kept.items()
    for name in ("predictions.parquet", "validation.parquet"):
        plain = pq.read_table(tmp_path / digest / name)
        assert plain.equals(pq.read_table(path.parent / name))
    found = result_files.read_validation(tmp_path / stopped.stem)
    values = json.loads(stopped.read_text())["values"]
    for fold, value in enumerate(values):
        part = found.take(found.fold == fold)
        truth, zeros = part.target, 0 * part.fold
        measured = part.kind.measure(part.probabilities, truth, zeros)["auroc"][0]
        assert math.isclose(value, measured)


@pytest.mark.ray
def test_pruned_configs_are_not_trained_again(pruned, capsys):
    assert sweep.run(pruned) == 0
    assert "6 of 6 configs already done" in capsys.readouterr().out
    assert len(parent_and_children(pruned)[1]) == 6


@pytest.mark.slow  # Ray Tune starts three times
@pytest.mark.ray
@pytest.mark.parametrize("name", ["random", "optuna"])
def test_a_search_that_goes_on_equals_one_that_was_not_stopped(
    local_ray, table, tmp_path, name
):
    def run(out, points):
        search = {"name": name, "points": points, "seed": 1}
        given = settings(table, tmp_path / out / "sweep", axes=AXES, search=search)
        assert sweep.run(given) == 0
        return given

    run("halves", 11)
    halves, whole = run("halves", 13), run("whole", 13)
    both = [
        {d: result_files.read_metrics(p.parent) for d, p in results(g.out).items()}
        for g in (halves, whole)
    ]
    assert both[0].keys() == both[1].keys() and len(both[0]) == 13
    for digest, metrics in both[0].items():
        for key, value in metrics.items():
            if "seconds" not in key:
                assert value == pytest.approx(both[1][digest][key], nan_ok=True)
    parent, children = parent_and_children(halves)
    assert len(children) == 13 and parent.info.status == "FINISHED"
    assert len({child.info.run_name for child in children}) == 13


@pytest.mark.slow
@pytest.mark.ray
def test_a_search_that_is_killed_again_and_again_equals_plain_python(tmp_path):
    """The driver by SIGKILL and SIGTERM, a worker by SIGKILL, at random moments."""
    table, rng = write_bags(tmp_path / "bags.parquet", 60), random.Random(0)
    words = {
        "bags": table, "axes": json.dumps(AXES), "epochs": 20, "hidden": "[8]",
        "search": "{name: random, points: 8, seed: 5}", "early_stopping": "null",
        "runtime.actors": 1, "runtime.pack": 1, "out": tmp_path / "out",
    }  # fmt: skip
    command = [sys.executable, str(SWEEP), *(f"{k}={v}" for k, v in words.items())]
    for number in range(3):
        _interrupt(command, number, rng)
    subprocess.run(command, check=True, timeout=600, stdout=subprocess.DEVNULL)
    given = config.load(SweepConfig, None, config.parse_overrides(command[2:]))
    points = PointSource(given, given, given.out).points
    assert results(given.out).keys() == points.keys() and len(points) == 8
    for digest, path in results(given.out).items():
        point = points[digest].config
        experiment.run(point, *experiment.load(point), tmp_path / digest)
        plain = pq.read_table(tmp_path / digest / "predictions.parquet")
        assert plain.equals(pq.read_table(path.parent / "predictions.parquet"))
    parent, children = parent_and_children(given)
    assert len(children) == 8 == len({child.info.run_name for child in children})
    assert {r.info.status for r in [parent, *children]} == {"FINISHED"}


def _interrupt(command, what, rng):
    """Start a sweep and kill its driver (0), end it (1) or kill a worker first (2)."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout
        for line in driver.stdout:  # Ray has started when a config or model is done
            if re.search(r"sweep: \d+/\d+ configs", line):
                break
        time.sleep(rng.random())
        if what == 2:
            family = psutil.Process(driver.pid).children(recursive=True)
            trial, *_ = [p for p in family if "ImplicitFunc" in name_of(p)]
            trial.kill()
            time.sleep(rng.random())
        assert driver.poll() is None, "it ended before it was killed"
        end_driver(driver, signal.SIGTERM if what == 1 else signal.SIGKILL)
