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
