import dataclasses
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mshisto_ray import config
from mshisto_ray.config import InputError
from mshisto_ray.learning.sweep.axes import AxesConfig
from mshisto_ray.learning.sweep.points import Point, check, expand, show
from mshisto_ray.learning.sweep.results import PointResult, rank
from mshisto_ray.mil import experiment, experiment_recipe
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.poolings import noisy_or


@pytest.fixture
def table(tmp_path):
    return write(tmp_path / "bags.parquet")


def write(path, dim=2, labels="ab"):
    rows = {
        "bag": range(40),
        "label": list(labels) * (40 // len(labels)),
        "features": [[float(i + d) for d in range(dim)] for i in range(40)],
    }
    pq.write_table(pa.table(rows), path)
    return path


def base(table, **keys):
    return config.validate(ExperimentConfig, {"bags": str(table), **keys})


def test_points_are_all_combinations_as_typed_configs(table):
    axes = {
        "pooling": [{"name": "embedding_mean"}, {"name": "attention", "hidden": 4}],
        "noise.sigma": [0, 0.1],
        "optimiser.lr": ["1e-3"],
    }
    points = expand(base(table), axes)
    assert [p.label for p in points] == [
        "pooling=embedding_mean, noise.sigma=0, optimiser.lr=1e-3",
        "pooling=embedding_mean, noise.sigma=0.1, optimiser.lr=1e-3",
        "pooling=attention(hidden=4), noise.sigma=0, optimiser.lr=1e-3",
        "pooling=attention(hidden=4), noise.sigma=0.1, optimiser.lr=1e-3",
    ]
    last = points[-1].config
    assert last.pooling.name == "attention" and last.pooling.parameters["hidden"] == 4
    assert last.noise.parameters == {"sigma": 0.1} and last.optimiser.lr == 1e-3
    assert len(set(check(points, "auroc")[0])) == 4


def test_a_part_by_its_name_takes_the_parameters_of_another_axis(table):
    axes = {"noise.sigma": [0, 0.1], "noise": ["gaussian", "covariance"]}
    points = expand(base(table), axes)
    found = [(p.config.noise.name, p.config.noise.parameters["sigma"]) for p in points]
    assert found == [
        ("gaussian", 0), ("covariance", 0), ("gaussian", 0.1), ("covariance", 0.1)
    ]  # fmt: skip


def test_without_axes_there_is_one_point(table):
    (point,) = expand(base(table), {})
    assert point.config == base(table) and point.label == "config"
    assert len(check([point], "auroc")[0]) == 1


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"poolin": [1]}, r"axes\.poolin: no such key: did you mean pooling\?"),
        ({"noise.sgima": [1]}, r"at noise\.sgima=1: noise: .*takes sigma; got 'sgima'"),
        (
            {"pooling": [{"name": "attention"}, {"name": "topk"}]},
            "at pooling=topk: pooling: no 'topk' in poolings; have attention",
        ),
        ({"optimiser.lr": [1e-3, -1]}, r"at optimiser\.lr=-1: optimiser\.lr"),
        ({"epochs": [5, 5]}, "epochs=5 and epochs=5 are the same config"),
        ({"epochs": [5, "5"]}, "are the same config"),
    ],
)
def test_points_that_are_no_configs_are_refused_by_name(table, axes, message):
    with pytest.raises(InputError, match=message):
        expand(base(table), axes)


@pytest.mark.parametrize(
    "key", ["split.seed", "target", "unit", "cohort", "runtime.cache.dir"]
)
def test_axes_that_forbid_comparison_are_refused(key):
    with pytest.raises(InputError, match="has to be the same for all configs"):
        config.validate(AxesConfig, {"axes": {key: [1]}})


def test_an_axis_needs_values():
    with pytest.raises(InputError, match="epochs: give at least one value"):
        config.validate(AxesConfig, {"axes": {"epochs": []}})


def test_features_may_differ_and_bags_may_not(table, tmp_path):
    wider = write(tmp_path / "wider.parquet", dim=5)
    other = write(tmp_path / "other.parquet", labels="ba")
    points = expand(base(table), {"bags": [str(table), str(wider)]})
    assert len(check(points, "auroc")[0]) == 2
    points = expand(base(table), {"bags": [str(table), str(other)]})
    with pytest.raises(InputError, match=r"at bags=.*other\.parquet: other bags, pat"):
        check(points, "auroc")


def test_bags_have_instances_at_every_point_or_at_none(table):
    """Otherwise some points would be tested on fewer bags than others."""
    points = expand(base(table), {"epochs": [1, 2]})
    bags, _ = experiment.load(points[0].config)
    empty = bags.sizes.copy()
    empty[3] = 0
    fewer = dataclasses.replace(bags, sizes=empty)
    second = points[1].config
    assert second.check_same(fewer, fewer) is None
    problem = second.check_same(fewer, bags)
    assert re.search(f"1 bags have instances .*{bags.names[3]}", str(problem))


def test_notes_of_every_point_are_listed_once(table, monkeypatch):
    monkeypatch.setattr(noisy_or, "_SATURATES", 0)
    names = ["embedding_mean", "noisy_or", "top_k"]
    axes = {"pooling": [{"name": name} for name in names], "seed": [0, 1]}
    _, notes = check(expand(base(table), axes), "auroc")
    line, note = notes
    assert "patients;" in line and "folds drawn" in line
    assert note.startswith("pooling noisy_or saturates: for bags of 1 instances (the ")


def test_without_validation_nothing_can_be_chosen(table):
    given = base(table, split={"validation": 0}, early_stopping=None)
    points = expand(given, {"epochs": [1, 2]})
    with pytest.raises(InputError, match=r"validation is 0.*select=null"):
        check(points, "auroc")
    assert len(check(points, None)[0]) == 2
    assert len(check(points[:1], "auroc")[0]) == 1


@pytest.mark.parametrize(("part", "spare"), [("pca", 0), ("isomap", 1)])
def test_a_reduction_to_more_than_a_fold_has_tiles_is_refused(tmp_path, part, spare):
    given = base(write(tmp_path / "wide.parquet", dim=60))
    fewest = min(len(split.train) for split in given.check()[1])
    dims = [fewest - spare, fewest - spare + 1]
    fits, too_wide = ({"reduction": [{"name": part, "dim": dim}]} for dim in dims)
    assert len(check(expand(given, fits), "auroc")[0]) == 1
    with pytest.raises(InputError, match=f"tiles, have {dims[0]}: give"):
        check(expand(given, too_wide), "auroc")


def test_given_validation_bags_are_chosen_by(table):
    rows = pq.read_table(table)
    parts = ["train", "train", "val", "test"] * 10
    pq.write_table(rows.append_column("fold", pa.array(parts)), table)
    given = base(table, split={"validation": 0}, early_stopping=None)
    assert len(check(expand(given, {"epochs": [1, 2]}), "auroc")[0]) == 2


def outcome(number, val, test):
    point = Point({"seed": number}, base("x", seed=number))
    metrics = None if val is None else {"val_auroc_mean": val, "test_auroc_mean": test}
    return PointResult(str(number), point, metrics, None)


def test_validation_ranks_and_tests_have_no_say():
    nan = float("nan")
    outcomes = [
        outcome(0, 0.7, 0.9), outcome(1, nan, 1.0), outcome(2, 0.8, 0.6),
        outcome(3, None, None), outcome(4, 0.8, 0.99),
    ]  # fmt: skip
    assert [o.digest for o in rank(outcomes, "auroc")] == ["2", "4", "0", "1"]
    assert [o.digest for o in rank(outcomes, None)] == ["0", "1", "2", "4"]


def test_values_are_shown_in_one_word():
    assert show({"name": "attention", "hidden": 3}) == "attention(hidden=3)"
    assert [show(v) for v in ("a", 0.1, None, [1, 2])] == ["a", "0.1", "null", "[1, 2]"]


def test_tiles_of_an_epoch_are_an_axis_and_part_of_the_recipe(table):
    points = expand(base(table), {"tiles_per_epoch": [None, 8]})
    plain, some = (point.config for point in points)
    bags, _ = experiment.load(plain)
    assert "tiles_per_epoch" not in experiment_recipe.recipe(plain, bags)
    assert experiment_recipe.recipe(some, bags)["tiles_per_epoch"] == 8
