import itertools
import math

import numpy as np
import pytest
import torch
from fixtures.losses import batch, loss_of, unit

EXAMPLES = [
    {},
    {"squared": False, "normalize": False, "margin": 3.0},
    {"squared": False, "balanced": False},
]


def oracle(
    z, positive, negative, margin=1.0, squared=True, normalize=True, balanced=True
):
    power = 2 if squared else 1
    if normalize:
        z = [unit(row) for row in z]
    near, far = [], []
    for i, j in itertools.combinations(range(len(z)), 2):
        d = math.sqrt(sum(float(a - b) ** 2 for a, b in zip(z[i], z[j], strict=True)))
        if positive[i, j]:
            near.append(d**power)
        if negative[i, j]:
            far.append(max(0.0, margin - d) ** power)
    if balanced:
        return (sum(near) / len(near) + sum(far) / len(far)) / 2
    return sum(near + far) / len(near + far)


def test_a_pair_at_distance_zero_costs_nothing_and_stays():
    z = torch.tensor([[1.0, 2.0], [1.0, 2.0]], requires_grad=True)
    positive = ~torch.eye(2, dtype=torch.bool)
    for squared in (True, False):
        loss = loss_of(("margin", {"squared": squared}))
        value = loss(z, positive, torch.zeros_like(positive))
        value.backward()
        assert value.item() == 0 and not z.grad.any()


def test_small_distances_are_not_lost():
    z = torch.tensor([[1.0, 0.0], [1.0, 1e-4]], dtype=torch.float32)
    loss = loss_of(("margin", {"squared": False}))
    positive = ~torch.eye(2, dtype=torch.bool)
    value = loss(z, positive, torch.zeros_like(positive))
    assert value.item() == pytest.approx(1e-4, rel=1e-3)


def test_it_tells_the_share_of_dead_negatives():
    z, positive, negative = (each.numpy() for each in batch())
    far = [
        np.linalg.norm(z[i] - z[j]) >= 2.5
        for i, j in itertools.combinations(range(len(z)), 2)
        if negative[i, j]
    ]
    loss = loss_of(("margin", {"margin": 2.5, "normalize": False}))
    assert loss.monitors(z, positive, negative) == {"dead_negatives": np.mean(far)}
    assert 0 < np.mean(far) < 1


def test_values_are_checked():
    with pytest.raises(ValueError, match=r"margin\.margin"):
        loss_of(("margin", {"margin": 0}))
