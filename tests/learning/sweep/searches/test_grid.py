from mshisto_ray.learning.sweep.axes import SearchSpace
from mshisto_ray.learning.sweep.searches import grid
from mshisto_ray.mil.experiment import ExperimentConfig


def test_the_last_axis_varies_fastest():
    space = SearchSpace({"epochs": (1, 2), "seed": (3, 4, 5)}, ExperimentConfig)
    found = [grid.build().suggest(space, number, ()) for number in range(7)]
    pairs = [(e, s) for e in (1, 2) for s in (3, 4, 5)]
    assert found == [{"epochs": e, "seed": s} for e, s in pairs] + [None]
