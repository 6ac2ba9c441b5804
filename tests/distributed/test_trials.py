import io
import json
import sys
from types import SimpleNamespace

import pytest

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.distributed import trial_worker
from mshisto_ray.distributed.trial_progress import SweepProgress
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.mil import experiment
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.input.config import InputConfig


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (
            {"intervals": "score", "val_auroc_mean": 0.8965, "test_auroc_mean": 0.7123},
            "validation AUROC 0.896",
        ),
        ({"intervals": "score", "test_auroc_mean": 0.7123}, "done"),
        (None, "no result"),
    ],
)
def test_a_line_of_a_config_shows_validation_never_test(
    metrics, said, tmp_path, capsys
):
    folder = tmp_path / "configs" / "abc"
    folder.mkdir(parents=True)
    if metrics:
        (folder / "metrics.json").write_text(json.dumps(metrics))
    config = SimpleNamespace(kind=TargetConfig().build())
    pending = {"abc": SimpleNamespace(label="pooling=mean", config=config)}
    trial = SimpleNamespace(config={"digests": ["abc"]})
    seen = []
    watch = SimpleNamespace(ended=lambda *result: seen.append(result))
    SweepProgress(pending, 1, tmp_path, watch).on_trial_complete(0, [], trial)  # pyright: ignore
    assert seen == [("abc", None)]
    assert capsys.readouterr().out == f"sweep: 1/1 configs, pooling=mean: {said}\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_a_bar_with_the_best_validation_and_the_lines(
    tmp_path, monkeypatch
):
    config = SimpleNamespace(kind=TargetConfig().build())
    values = {"a": 0.9, "b": 0.7, "c": None}
    for digest, value in values.items():
        (tmp_path / "configs" / digest).mkdir(parents=True)
        known = {"intervals": "score", "test_auroc_mean": 0.123}
        known |= {} if value is None else {"val_auroc_mean": value}
        text = json.dumps(known)
        (tmp_path / "configs" / digest / "metrics.json").write_text(text)
    pending = {d: SimpleNamespace(label=f"pooling={d}", config=config) for d in values}
    trials = [SimpleNamespace(config={"digests": [d]}, trial_id=d) for d in values]
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    watch = SimpleNamespace(ended=lambda *result: None)
    progress = SweepProgress(pending, 3, tmp_path, watch)  # pyright: ignore
    progress.on_trial_result(0, [], trials[0], {"models": 3, "ended": {}})  # pyright: ignore
    for trial in trials:
        progress.on_trial_complete(0, [], trial)  # pyright: ignore
    shown = terminal.getvalue()
    assert "sweep:   0%|" in shown and "0/3 configs, 3 models" in shown
    assert "2/3 configs, 3 models, best validation AUROC 0.900, pooling=a" in shown
    assert "sweep: 2/3 configs, pooling=b: validation AUROC 0.700\n" in shown
    assert "sweep: 3/3 configs, pooling=c: done\n" in shown
    assert "0.123" not in shown


def test_a_worker_reads_the_bags_that_the_driver_checked(tmp_path, monkeypatch):
    """Every key of the input, not only those that bags usually have."""
    given = {
        "embeddings": str(tmp_path), "cohort": str(tmp_path / "cohort.csv"),
        "columns": {"patient_id": "case"}, "colour": "gray", "unit": "patient",
        "scales": [2.0, 1.0], "combine": {"name": "concat"},
    }  # fmt: skip
    point = configs.validate(ExperimentConfig, given)
    read = []

    def remember(config, *others):
        read.append(config)
        raise InputError("enough")

    monkeypatch.setattr(experiment, "read_bags", remember)
    reports = []
    monkeypatch.setattr(trial_worker.tune, "report", reports.append)
    trial = {"digests": ["abc"], "points": [point.model_dump_json()]}
    trial_worker.train_points(trial, ExperimentConfig, tmp_path, 1)
    assert reports == [{"models": 0, "ended": {"abc": "enough"}}]
    for key in InputConfig.model_fields:
        assert getattr(read[0], key) == getattr(point, key)


def test_the_best_so_far_are_listed_by_validation(tmp_path, capsys, monkeypatch):
    now = [0.0]
    module = "mshisto_ray.distributed.trial_progress.time.monotonic"
    monkeypatch.setattr(module, lambda: now[0])
    config = SimpleNamespace(kind=TargetConfig().build())
    points = {n: SimpleNamespace(label=f"seed={n}", config=config) for n in "12345"}
    watch = SimpleNamespace(ended=lambda *result: None)
    progress = SweepProgress(points, 5, tmp_path, watch)  # pyright: ignore
    for number, value in zip("1234", [0.7, 0.9, 0.6, 0.8], strict=True):
        folder = tmp_path / "configs" / number
        folder.mkdir(parents=True)
        metrics = {"intervals": "score", "val_auroc_mean": value}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        now[0] += 11
        trial = SimpleNamespace(config={"digests": [number]})
        progress.on_trial_complete(0, [], trial)  # pyright: ignore
    lines = capsys.readouterr().out.splitlines()
    assert lines[3:] == [
        "sweep: best of 3 configs so far:",
        "sweep:   validation AUROC 0.900, seed=2",
        "sweep:   validation AUROC 0.700, seed=1",
        "sweep:   validation AUROC 0.600, seed=3",
        "sweep: 4/5 configs, seed=4: validation AUROC 0.800",
    ]
