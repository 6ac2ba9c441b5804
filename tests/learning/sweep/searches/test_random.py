import numpy as np

from mshisto_ray.learning.sweep.axes import Range, SearchSpace
from mshisto_ray.learning.sweep.searches import random
from mshisto_ray.mil.experiment import ExperimentConfig

EXAMPLES = [{"points": 8}]


def test_draws_are_even_and_do_not_depend_on_how_many_are_wanted():
    axes = {
        "epochs": (1, 2, 3),
        "optimiser.lr": Range(low=1e-4, high=1, log=True),
        "dropout": Range(low=0, high=0.5),
    }
    space = SearchSpace(axes, ExperimentConfig)
    few, many = random.build(points=5), random.build(points=5000)
    found = [many.suggest(space, number, ()) for number in range(3000)]
    assert found[:5] == [few.suggest(space, number, ()) for number in range(5)]
    counts = np.unique([v["epochs"] for v in found], return_counts=True)[1]
    assert abs(counts - 1000).max() < 100
    rates = np.log10([v["optimiser.lr"] for v in found])
    assert abs(np.histogram(rates, 4, (-4, 0))[0] - 750).max() < 100
    shares = [v["dropout"] for v in found]
    assert abs(np.histogram(shares, 5, (0, 0.5))[0] - 600).max() < 100
