"""Which configs go on, against a ranking by hand; what earlier starts have left."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from mshisto_ray.learning.sweep.pruning import PruningConfig, read_pruned
from mshisto_ray.learning.sweep.rungs import Rungs


@pytest.mark.parametrize(
    ("grace", "reduction", "total", "rungs"),
    [(1, 3, 10, [1, 3, 9]), (2, 2, 8, [2, 4]), (5, 3, 5, []), (1, 3, 1, [])],
)
def test_rungs_end_below_all_models(grace, reduction, total, rungs):
    assert PruningConfig(grace=grace, reduction=reduction).rungs(total) == rungs


@pytest.mark.parametrize("lower", [False, True])
def test_the_best_share_of_those_that_came_as_far_goes_on(lower):
    rng = np.random.default_rng(0)
    for num in range(3, 20):
        values = rng.permutation(num) / num
        value, others = values[0], list(values[1:])
        order = sorted(values, reverse=not lower)
        wanted = order.index(value) < math.ceil(num / 3)
        assert PruningConfig(reduction=3).keeps(value, others, lower) == wanted


def test_few_configs_and_values_that_are_not_defined_go_on():
    settings = PruningConfig(reduction=3)
    assert settings.keeps(0.1, [0.9], False)
    assert settings.keeps(0.1, [0.9, math.nan], False)
    assert settings.keeps(math.nan, [0.9, 0.8, 0.7], False)


def test_a_sweep_that_was_killed_compares_with_what_there_was(tmp_path):
    settings = PruningConfig(grace=1, reduction=2)
    given = [("a", [0.9]), ("b", [0.5]), ("c", [0.7]), ("a", [0.9, 0.3]), ("d", [0.6])]
    whole = Rungs(tmp_path / "whole", settings, "auroc", False)
    (tmp_path / "whole").mkdir()
    ended = [d for d, values in given if whole.prunes(d, values, 4)]
    (tmp_path / "half").mkdir()
    first = Rungs(tmp_path / "half", settings, "auroc", False)
    assert [first.prunes(d, v, 4) for d, v in given[:2]] == [False, True]
    again = Rungs(tmp_path / "half", settings, "auroc", False)
    never = SimpleNamespace(config=SimpleNamespace(read_validation=lambda path: None))
    # "a" was in training: it begins anew.
    again.read(dict.fromkeys("abcd", never))
    late = [d for d, values in [given[0], *given[2:]] if again.prunes(d, values, 4)]
    assert ["b", *late] == ended == ["b", "d"]
    for digest in ended:
        both = [
            read_pruned(tmp_path / name, digest, settings, "auroc")
            for name in ("whole", "half")
        ]
        assert both[0] == both[1] and both[0] is not None
