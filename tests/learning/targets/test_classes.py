import numpy as np
import pytest
import torch
from torch.nn import functional

from mshisto_ray.learning.targets import TargetConfig

EXAMPLES = [
    {},
    {"class_weights": "balanced"},
    {"focal": 2.0, "classes": ("c", "a", "b")},
]


def cells(rng, num, keys):
    return [(str(rng.choice(["a", "b", "b", "c"])),) for _ in range(num)]


def test_focal_and_weighted_losses_are_those_of_the_formulas():
    logs = torch.log_softmax(torch.randn(7, 3, dtype=torch.float64), -1)
    truth = np.array([0, 0, 0, 0, 1, 1, 2])
    plain = TargetConfig(focal=0).build()
    wanted = functional.nll_loss(logs, torch.from_numpy(truth), reduction="none")
    assert torch.equal(plain.loss(logs, torch.from_numpy(truth)), wanted)
    found = TargetConfig(focal=2).build().loss(logs, torch.from_numpy(truth))
    for row, code, loss in zip(logs.exp().tolist(), truth, found, strict=True):
        assert loss.item() == pytest.approx(-((1 - row[code]) ** 2) * np.log(row[code]))
    balanced = TargetConfig(class_weights="balanced").build()
    weights = balanced.fit(truth, "abc").weights(truth).tolist()
    assert weights == pytest.approx([7 / 12] * 4 + [7 / 6] * 2 + [7 / 3])
    assert sum(weights) == pytest.approx(7)


def test_what_is_neutral_is_in_no_recipe():
    settings = TargetConfig(column="x").build().settings
    wanted = {"kind": "classes", "column": "x", "classes": None, "others": "refuse"}
    assert settings == wanted
    assert TargetConfig(focal=1).build().settings["focal"] == 1


def test_what_is_near_the_shares_of_the_classes_is_undecided():
    target = TargetConfig().build()

    def share(truth, positive):
        positive = np.array(positive)
        values = np.stack([1 - positive, positive], 1)
        return target.undecided(values, np.array(truth), 2)

    assert share([0, 1, 0, 1], [0.45, 0.59, 0.3, 0.9]) == 0.5
    # Of a class of 5 %, a bag that is called without it is decided.
    rare = [1] + [0] * 19
    assert share(rare, [0.9] + [0.01] * 19) == 0
    assert share(rare, [0.055] * 20) == 1
    # A class that no bag has decides nothing, and neither does a single one.
    three = np.array([[0.5, 0.5, 0.0], [0.9, 0.1, 0.0]])
    assert target.undecided(three, np.array([0, 1]), 3) == 0.5
    assert share([1, 1], [0.99, 0.95]) == 0
