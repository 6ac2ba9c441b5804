import math

import pytest
import torch
from fixtures.poolings import probability

PARAMETERS = [{"r": 1.0}, {"r": 0.5}, {"r": 20.0}]


def sigm(x):
    return 1 / (1 + math.exp(-x))


def p_of_logits(logits, r=4.0):
    return (sum(sigm(x) ** r for x in logits) / len(logits)) ** (1 / r)


def test_r_goes_from_mean_to_maximum():
    h = torch.tensor([[-2.0], [0.5], [3.0]], dtype=torch.float64)
    mean = probability("instance_mean", h)
    assert probability("generalised_mean", h, r=1) == pytest.approx(mean)
    largest = probability("generalised_mean", h, r=100)
    assert largest == pytest.approx(sigm(3.0), rel=2e-2)
