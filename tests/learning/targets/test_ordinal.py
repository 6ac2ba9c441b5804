import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from mshisto_ray.config import InputError
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.learning.targets.ordinal import log_shares, median_class
from mshisto_ray.statistics.agreement import quadratic_kappa

EXAMPLES = [{}, {"classes": ("low", "middle", "high")}, {"classes": ("1", "2")}]


def cells(rng, num, keys):
    names = keys.get("classes", ("1", "2", "3", "10"))
    return [(str(rng.choice(names)),) for _ in range(num)]


def test_probabilities_are_those_of_falling_cumulative_logits():
    outputs = torch.randn(9, 3, dtype=torch.float64) * 3
    found = log_shares(outputs).exp()
    torch.testing.assert_close(found.sum(1), torch.ones(9, dtype=torch.float64))
    for row, shares in zip(outputs, found, strict=True):
        above = [row[0]]
        for output in row[1:]:
            above.append(above[-1] - torch.log1p(output.exp()))
        above = [1.0, *(torch.sigmoid(c).item() for c in above), 0.0]
        wanted = -np.diff(above)
        np.testing.assert_allclose(shares.numpy(), wanted, atol=1e-12)


def test_kappa_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 60)
    found = np.clip(truth + rng.integers(-1, 2, 60), 0, 3)
    wanted = cohen_kappa_score(truth, found, weights="quadratic")
    assert quadratic_kappa(found, truth, 4)[0] == pytest.approx(wanted)
    assert np.isnan(quadratic_kappa(np.zeros(5, int), np.zeros(5, int), 4)[0])


def test_the_median_class_is_the_first_that_reaches_a_half():
    shares = np.array([[0.5, 0.2, 0.3], [0.4, 0.05, 0.55], [0.2, 0.4, 0.4]])
    assert median_class(shares).tolist() == [0, 2, 1]


def test_numbers_are_ordered_by_value_and_words_need_an_order():
    target = TargetConfig(kind="ordinal").build()
    found = target.encode([("10",), ("9",), ("1",)], ["a", "b", "c"], "bags")
    assert found.names == ("1", "9", "10")
    with pytest.raises(InputError, match="'high', 'low' have no order: give target"):
        target.encode([("low",), ("high",)], ["a", "b"], "bags")
