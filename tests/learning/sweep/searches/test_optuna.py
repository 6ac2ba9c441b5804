import math
import sys

import pytest

from mshisto_ray.config import InputError
from mshisto_ray.learning.sweep.axes import Range, SearchSpace
from mshisto_ray.learning.sweep.searches import Tried, optuna
from mshisto_ray.mil.experiment import ExperimentConfig

EXAMPLES = [{"points": 8}]


def test_it_finds_the_best_region_faster_than_chance():
    space = SearchSpace(
        {"optimiser.lr": Range(low=1e-5, high=1, log=True), "pooling": ("mean", "max")},
        ExperimentConfig,
    )
    search, tried = optuna.build(points=40), []
    for number in range(40):
        values = search.suggest(space, number, tried)
        away = abs(math.log10(values["optimiser.lr"]) + 3)
        tried.append(Tried(values, -away - 0.5 * (values["pooling"] == "max")))
    late = [abs(math.log10(t.values["optimiser.lr"]) + 3) for t in tried[20:]]
    # Evenly drawn rates lie 1.3 powers of ten away on average.
    assert sum(late) / len(late) < 0.7
    assert sum(t.values["pooling"] == "mean" for t in tried[20:]) > 12


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'mshisto-ray\[search\]'"):
        optuna.build(points=3)
