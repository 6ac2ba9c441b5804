import numpy as np
import pytest

from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.reporting.prediction_plots import plot_predictions


@pytest.mark.parametrize("classes", [("a", "b"), ("a", "b", "c")])
def test_predictions_are_drawn(classes, tmp_path):
    rng, num = np.random.default_rng(0), 30
    names = np.array([f"b{i}" for i in range(num)], dtype=object)
    zeros = np.zeros(num, int)
    given = Predictions(
        classes, names, names, names, rng.integers(2, size=num), zeros, zeros,
        rng.dirichlet(np.ones(len(classes)), num),
    )  # fmt: skip
    plot_predictions(tmp_path / "p.png", given, "gated_attention")
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
