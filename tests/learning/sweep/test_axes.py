"""Axes of a sweep: ranges, and parameters that belong to one part."""

import pytest

from mshisto_ray import config
from mshisto_ray.config import InputError
from mshisto_ray.learning.sweep.axes import AxesConfig, Range, SearchSpace
from mshisto_ray.learning.sweep.points import expand
from mshisto_ray.mil.experiment import ExperimentConfig

POOLINGS = [{"name": "embedding_max"}, {"name": "attention"}, "gated_attention"]


def base():
    return config.validate(ExperimentConfig, {"bags": "bags.parquet"})


def axes(**keys):
    return config.validate(AxesConfig, keys)


def test_a_parameter_is_of_those_parts_that_have_it():
    given = axes(axes={"pooling.hidden": [4, 8], "pooling": POOLINGS, "seed": [0, 1]})
    points = expand(base(), given.axes)
    found = [(p.config.pooling.name, p.config.pooling.parameters.get("hidden"))
             for p in points]  # fmt: skip
    assert len(found) == 10  # seeds times (one mean, two of each attention)
    assert {*found} == {("embedding_max", None), ("attention", 4), ("attention", 8),
                        ("gated_attention", 4), ("gated_attention", 8)}  # fmt: skip
    means = [p.label for p in points if "embedding_max" in p.label]
    assert means == ["pooling=embedding_max, seed=0", "pooling=embedding_max, seed=1"]


def test_a_parameter_that_no_part_has_is_refused():
    given = axes(axes={"pooling": POOLINGS, "pooling.hiden": [4]})
    message = (
        "axes.pooling.hiden: no value of the axis pooling has 'hiden': "
        "embedding_max takes none; attention takes hidden"
    )
    with pytest.raises(InputError, match=message):
        expand(base(), given.axes)
    alone = axes(axes={"pooling.hiden": [4]})
    with pytest.raises(InputError, match=r"'gated_attention' takes hidden.*'hiden'"):
        expand(base(), alone.axes)


def test_points_of_a_random_search_are_distinct_and_more_begin_with_the_same():
    given = {"axes": {"optimiser.lr": {"low": 1e-5, "high": 0.1, "log": True},
                      "hidden": [[8], [16]]}}  # fmt: skip
    few = axes(**given, search={"name": "random", "points": 5, "seed": 3})
    many = axes(**given, search={"name": "random", "points": 20, "seed": 3})
    first = expand(base(), few.axes, few.search)
    rest = expand(base(), many.axes, many.search)
    assert len(rest) == 20 and rest[:5] == first
    assert len({p.config.model_dump_json() for p in rest}) == 20
    whole = axes(axes={"epochs": [1, 2, 3]}, search={"name": "random", "points": 3})
    found = expand(base(), whole.axes, whole.search)
    assert sorted(p.config.epochs for p in found) == [1, 2, 3]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"axes": {"epochs": {"low": 1, "high": 9}}}, "grid takes every value, and"),
        ({"axes": {"epochs": {"low": 9, "high": 1}}}, "low has to be below high"),
        ({"axes": {"epochs": {"low": 1}}}, "epochs: high: required"),
        ({"axes": {"epochs": {"low": 0, "high": 1, "log": True}}}, "above 0, got 0"),
        ({"axes": {"epochs": {"low": 0.5, "high": 1, "whole": True}}}, "whole: low"),
        ({"axes": {"epochs": {"lo": 1, "high": 9}}}, "lo: unknown key; known: high"),
        ({"axes": {"epochs": 3}}, "give a list of values or a range, got 3"),
        ({"axes": {"epochs": [3]}, "search": {"name": "random"}}, "random.points"),
        ({"axes": {"epochs": [3]}, "search": "anneal"}, "no 'anneal' in searches"),
        ({"search": {"name": "random", "points": 2}}, "random needs axes"),
        (
            {"axes": {"seed": [3]}, "search": {"name": "optuna", "points": 2},
             "select": None},
            "learns from the metric that chooses",
        ),
    ],
)  # fmt: skip
def test_axes_that_cannot_be_searched_are_refused(keys, message):
    with pytest.raises(InputError, match=message) as error:
        axes(**keys)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["random", "optuna"])
def test_more_points_than_there_are_configs_are_refused(name):
    given = axes(
        axes={"pooling": POOLINGS, "pooling.hidden": [4, 8]},
        search={"name": name, "points": 6},
    )
    with pytest.raises(InputError, match="points=6: the axes have 5 different configs"):
        expand(base(), given.axes, given.search)


def test_every_value_is_checked_before_a_search_begins():
    given = axes(
        axes={"optimiser.lr": {"low": -1, "high": 1}, "seed": [0]},
        search={"name": "optuna", "points": 6},
    )
    with pytest.raises(InputError, match=r"at optimiser.lr=-1.0, seed=0: optimiser.lr"):
        expand(base(), given.axes, given.search)


def test_a_range_gives_whole_or_readable_numbers_within_its_ends():
    whole = Range(low=1, high=3, whole=True)
    assert [whole.at(share) for share in (0, 0.34, 0.99)] == [1, 2, 3]
    log = Range(low=1e-4, high=1, log=True)
    assert log.at(0) == 1e-4 and log.at(0.5) == 0.01 and log.at(1 / 3) == 0.00215
    assert isinstance(whole.at(0.5), int)


def test_a_part_is_set_before_its_parameters():
    space = SearchSpace(
        {"noise.sigma": (0.1,), "noise": ({"name": "gaussian"},)}, ExperimentConfig
    )
    assert space.keys == ["noise", "noise.sigma"]


def test_nested_axes_are_dotted_keys():
    given = axes(axes={"noise": {"sigma": [0, 0.1]}, "optimiser": {"lr": [0.1, 0.01]}})
    assert set(given.axes) == {"noise.sigma", "optimiser.lr"}
    lows = {"low": 1e-4, "high": 0.1}
    nested = axes(
        axes={"optimiser": {"lr": lows}}, search={"name": "random", "points": 2}
    )
    assert nested.axes == {"optimiser.lr": Range(**lows)}


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("sigma", "axes.sigma: no such key: did you mean noise.sigma?"),
        ("noize.sigma", "axes.noize.sigma: no such key: did you mean noise.sigma?"),
        ("poling", "axes.poling: no such key: did you mean pooling?"),
        ("lr", "axes.lr: no such key: did you mean optimiser.lr?"),
        ("search", "axes.search: search is of the sweep, one for all configs: give"),
        ("axes.pooling", "axes.axes.pooling: axes is of the sweep, one for all"),
        ("out", "axes.out: out is of the sweep, one for all configs"),
        ("optimiser.rl", "axes.optimiser.rl: no key 'rl' in optimiser, which has name"),
        ("epochs.x", "axes.epochs.x: epochs is one value, it has no keys inside: give"),
        ("optimiser.lr.x", "axes.optimiser.lr.x: optimiser.lr is one value"),
        ("noise.x", "axes, at noise.x=1: noise: 'gaussian' takes sigma; got 'x'"),
        ("hidden", "axes, at hidden=1: hidden: give a list, as [1]"),
    ],
)
def test_an_axis_that_no_config_has_says_what_was_meant(key, said):
    with pytest.raises(InputError) as caught:
        expand(base(), axes(axes={key: [1, 2]}).axes)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", ["pooling", ["noise.sigma"]])
def test_axes_that_are_no_mapping_show_one(given):
    with pytest.raises(InputError, match=r"axes: give \{key: values\}, as \{noise"):
        axes(axes=given)


def test_a_part_in_place_of_a_list_of_parts_is_refused():
    with pytest.raises(InputError, match=r"pooling: give a list of parts, as \[\{"):
        axes(axes={"pooling": {"name": "attention"}})
