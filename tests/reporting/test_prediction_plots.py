import numpy as np
import pytest

from mshisto_ray.learning.class_plots import reliability
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.reporting.prediction_plots import plot_predictions


def test_reliability_of_hand_made_bins():
    confidence = np.array([0.55, 0.58, 0.91, 0.95, 1.0])
    correct = np.array([1.0, 0, 1, 1, 0])
    mean, share, number = reliability(confidence, correct)
    assert number.tolist() == [2, 3]
    assert share == pytest.approx([1 / 2, 2 / 3])
    assert mean == pytest.approx([0.565, (0.91 + 0.95 + 1) / 3])


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
