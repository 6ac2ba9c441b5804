import pytest

from mshisto_ray.config import InputError
from mshisto_ray.learning.sweep.axes import Range, SearchSpace
from mshisto_ray.learning.sweep.searches import paired
from mshisto_ray.mil.experiment import ExperimentConfig

AXES = {
    "pooling.hidden": (4, 8, 8),
    "pooling": (
        {"name": "attention"},
        {"name": "attention"},
        {"name": "embedding_max"},
    ),
    "epochs": (1, 2, 3),
}


def suggest(axes, number):
    return paired.build().suggest(SearchSpace(axes, ExperimentConfig), number, ())


def test_values_are_taken_side_by_side():
    axes = {"epochs": (1, 2, 2), "seed": (3, 3, 5)}
    found = [suggest(axes, number) for number in range(4)]
    pairs = [(1, 3), (2, 3), (2, 5)]
    assert found == [{"epochs": e, "seed": s} for e, s in pairs] + [None]


@pytest.mark.parametrize("seed", [(3, 4), Range(low=1, high=9, whole=True)])
def test_axes_of_other_lengths_are_refused(seed):
    said = r"epochs has 3, seed has (2|a range)"
    with pytest.raises(InputError, match=said) as error:
        suggest({"epochs": (1, 2, 3), "seed": seed}, 0)
    assert "\n" not in str(error.value)
