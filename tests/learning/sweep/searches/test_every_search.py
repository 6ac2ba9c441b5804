"""What every search owes, whatever it suggests."""

import pytest
from fixtures.parts import checked, examples, held

from mshisto_ray import components
from mshisto_ray.learning.sweep.axes import SEARCHES, Range, SearchSpace
from mshisto_ray.learning.sweep.searches import Tried
from mshisto_ray.mil.experiment import ExperimentConfig

AXES = {
    "pooling.hidden": (4, 8),
    "pooling": ({"name": "attention"}, {"name": "embedding_max"}),
    "epochs": (1, 2, 3),
}
# Searches that take lists of one length, or no range.
LISTS = ("grid", "paired")


def axes_of(part):
    return held(SEARCHES, part[0], "AXES", AXES)


RANGES = {**AXES, "optimiser.lr": Range(low=1e-5, high=1e-1, log=True)}


def suggestions(part, axes, num=10):
    search = components.build(SEARCHES, checked(SEARCHES, part))
    space, tried, found = SearchSpace(axes, ExperimentConfig), [], []
    for number in range(num):
        values = search.suggest(space, number, tried)
        if values is None:
            break
        found.append(values)
        tried.append(Tried(values, 0.1 * len(values) + 0.01 * values["epochs"]))
    return search, found


@pytest.mark.parametrize("part", examples(SEARCHES))
def test_suggestions_hold_what_applies_and_are_made_again(part):
    axes = axes_of(part)
    search, found = suggestions(part, axes)
    assert search.points in (None, 8) and found
    for values in found:
        takes = values["pooling"]["name"] == "attention"
        assert ("pooling.hidden" in values) == takes
        assert all(values[key] in axes[key] for key in values)
        assert list(values) == [key for key in axes if key in values]
    assert suggestions(part, axes)[1] == found


@pytest.mark.parametrize("part", examples(SEARCHES))
def test_a_search_that_was_killed_goes_on_from_what_was_tried(part):
    axes = axes_of(part)
    _, found = suggestions(part, axes)
    tried = [Tried(v, 0.1 * len(v) + 0.01 * v["epochs"]) for v in found[:-1]]
    again = components.build(SEARCHES, checked(SEARCHES, part))
    assert (
        again.suggest(SearchSpace(axes, ExperimentConfig), len(tried), tried)
        == found[-1]
    )


@pytest.mark.parametrize("part", [p for p in examples(SEARCHES) if p.id not in LISTS])
def test_ranges_are_kept_and_failures_and_pruned_points_are_taken(part):
    search, found = suggestions(part, RANGES)
    rates = [values["optimiser.lr"] for values in found]
    assert all(1e-5 <= rate <= 1e-1 for rate in rates) and len({*rates}) > 8
    tried = [Tried(found[0], None), Tried(found[1], 0.5, True), Tried(found[2], 0.7)]
    assert search.suggest(SearchSpace(RANGES, ExperimentConfig), 3, tried)
