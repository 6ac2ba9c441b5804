"""What Tune is handed out, and what it ends early."""

import json
from types import SimpleNamespace

from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from mshisto_ray.distributed.trial_points import HandOut, Pruner
from mshisto_ray.learning.sweep.pruning import PruningConfig, read_pruned
from mshisto_ray.learning.sweep.rungs import Rungs

CONFIG = SimpleNamespace(model_dump_json=lambda: json.dumps({"epochs": 3}))


def handed_out(num, minutes):
    left = [(str(number), SimpleNamespace(config=CONFIG)) for number in range(num)]
    return HandOut(lambda: dict([left.pop(0)]) if left else {}, minutes)  # pyright: ignore


def test_points_are_handed_out_until_there_are_none():
    given = handed_out(2, None)
    assert given.suggest("a") == {"digests": ["0"], "points": ['{"epochs": 3}']}
    assert given.suggest("b")["digests"] == ["1"]  # pyright: ignore
    assert given.suggest("c") == Searcher.FINISHED


def test_none_is_handed_out_after_the_budget(monkeypatch):
    now = [100.0]
    module = "mshisto_ray.distributed.trial_points.time.monotonic"
    monkeypatch.setattr(module, lambda: now[0])
    given = handed_out(9, 2)
    now[0] += 119
    assert given.suggest("a") != Searcher.FINISHED
    now[0] += 1
    assert given.suggest("b") == Searcher.FINISHED


def test_a_trial_that_does_worse_than_others_is_ended_and_recorded(tmp_path):
    settings = PruningConfig(grace=1, reduction=3)
    pruner = Pruner(Rungs(tmp_path, settings, "auroc", False))
    ends = {}
    for digest, value in [("a", 0.6), ("b", 0.5), ("c", 0.55), ("d", 0.9)]:
        trial = SimpleNamespace(config={"digests": [digest]})
        result = {"models": 1, "validated": [value], "total": 5}
        ends[digest] = pruner.on_trial_result(None, trial, result)  # pyright: ignore
    stopped = [d for d, end in ends.items() if end == TrialScheduler.STOP]
    assert stopped == ["c"]  # two are too few to compare; d is the best
    pruned = read_pruned(tmp_path, "c", settings, "auroc")
    assert pruned and pruned.values == (0.55,) and pruned.total == 5
    assert pruned.in_words("AUROC") == (
        "pruned after 1 of 5 models, validation AUROC 0.550"
    )
    assert read_pruned(tmp_path, "c", None, "auroc") is None
    assert read_pruned(tmp_path, "c", PruningConfig(grace=2), "auroc") is None


def test_without_rungs_no_trial_is_ended():
    trial = SimpleNamespace(config={"digests": ["a"]})
    found = Pruner(None).on_trial_result(None, trial, {"models": 1})  # pyright: ignore
    assert found == TrialScheduler.CONTINUE
