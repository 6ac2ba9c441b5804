"""A target that cannot be learned is refused in one line, before any work."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mshisto_ray import config
from mshisto_ray.config import InputError
from mshisto_ray.jobs._sweep_config import SweepConfig
from mshisto_ray.learning.sweep import points as sweep
from mshisto_ray.mil import experiment

SURVIVAL = {"kind": "survival", "time": "months", "event": "died"}
AGE = {"kind": "regression", "column": "age"}


@pytest.fixture
def table(tmp_path):
    rng, num = np.random.default_rng(0), 24
    columns = {
        "bag": [f"b{i}" for i in range(num)],
        "features": rng.normal(size=(num, 3)).tolist(),
        "months": rng.integers(1, 60, num),
        "died": np.arange(num) % 2,
        "once": (np.arange(num) == 3).astype(int),
        "never": np.zeros(num, int),
        "age": rng.integers(30, 90, num),
        "same": np.ones(num),
        "word": ["a", "b"] * (num // 2),
    }
    path = tmp_path / "bags.parquet"
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"target": {"kind": "time"}}, "target: no 'time' in targets; have classes"),
        ({"target": {"kind": "survival"}}, "target: survival.time: .*required"),
        ({"target": AGE | {"loss": "cox"}}, "target: regression.loss: .*'mse' or"),
        ({"target": AGE | {"colum": "x"}}, "'regression' takes column, loss; got 'col"),
        ({"target": {"focal": -1}}, "target: classes.focal: .*greater than or equal"),
        ({"target": {"class_weights": "x"}}, "classes.class_weights: .*'balanced'"),
        ({"target": SURVIVAL | {"intervals": 1}}, "survival.intervals: .*greater than"),
        (
            {"target": AGE, "pooling": "noisy_or"},
            "pooling: noisy_or gives probabilities of classes, so it cannot learn "
            "target.kind=regression; take attention, .*transformer",
        ),
        (
            {"target": AGE, "early_stopping": {"metric": "auroc"}},
            "early_stopping.metric: target.kind=regression has loss and r2, got 'aur",
        ),
        ({"target": AGE, "select": "auroc"}, "select: target.kind=regression has r2"),
        ({"target": AGE | {"column": "no"}}, "no column 'no'; have"),
        ({"target": AGE | {"column": "word"}}, r"word: 24 of 24 values are not numb"),
        ({"target": AGE | {"column": "same"}}, "same: all 24 values are 1, so there"),
        ({"target": SURVIVAL | {"event": "age"}}, "age: 24 of 24 values are neither 1"),
        ({"target": SURVIVAL | {"event": "never"}}, "never: no event among 24 bags"),
        (
            {"target": SURVIVAL | {"event": "once"}},
            "'with an event' has 1 patients, fewer than split.folds=3: take a column",
        ),
        (
            {"target": {"kind": "multilabel", "labels": ["died", "never"]}},
            "never: is only 0, so nothing can be learned: leave the label out",
        ),
        ({"target": {"kind": "ordinal", "column": "word"}}, "'a', 'b' have no order"),
    ],
)
def test_one_line_says_what_is_wrong(table, keys, said):
    raw = {"bags": str(table), "split": {"folds": 3}, "out": "x", **keys}
    with pytest.raises(InputError, match=said) as error:
        given = config.validate(SweepConfig, raw)
        sweep.check(sweep.expand(given, given.axes), given.chosen_by)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("target", "metric"),
    [(AGE, "r2"), (SURVIVAL, "c_index"), ({"column": "word"}, "auroc")],
)
def test_the_target_chooses_where_nothing_else_is_said(table, target, metric):
    raw = {"bags": str(table), "split": {"folds": 3}, "out": "x", "target": target}
    given = config.validate(SweepConfig, raw)
    assert given.chosen_by == metric
    bags, splits = experiment.check(given)
    assert len(splits) == 3 and len(bags) == 24
    assert config.validate(SweepConfig, raw | {"select": None}).chosen_by is None
