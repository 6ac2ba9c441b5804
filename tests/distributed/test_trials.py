import io
import json
import sys
from types import SimpleNamespace

import pytest

from mshisto_ray.distributed.trial_progress import SweepProgress
from mshisto_ray.learning.targets import TargetConfig


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
    trial = SimpleNamespace(config={"digest": "abc"}, last_result={"error": None})
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
    trials = [
        SimpleNamespace(config={"digest": d}, trial_id=d, last_result={"error": None})
        for d in values
    ]
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    watch = SimpleNamespace(ended=lambda *result: None)
    progress = SweepProgress(pending, 3, tmp_path, watch)  # pyright: ignore
    progress.on_trial_result(0, [], trials[0], {"models": 3})  # pyright: ignore
    for trial in trials:
        progress.on_trial_complete(0, [], trial)  # pyright: ignore
    shown = terminal.getvalue()
    assert "sweep:   0%|" in shown and "0/3 configs, 3 models" in shown
    assert "2/3 configs, 3 models, best validation AUROC 0.900, pooling=a" in shown
    assert "sweep: 2/3 configs, pooling=b: validation AUROC 0.700\n" in shown
    assert "sweep: 3/3 configs, pooling=c: done\n" in shown
    assert "0.123" not in shown
