import math

import pytest
import torch
from fixtures.poolings import probability

PARAMETERS = [{"r": 0.1}, {"r": 8.0}]


def sigm(x):
    return 1 / (1 + math.exp(-x))


def p_of_logits(logits, r=1.0):
    return sigm(math.log(sum(math.exp(r * x) for x in logits) / len(logits)) / r)


def test_r_goes_from_mean_to_maximum():
    h = torch.tensor([[-2.0], [0.5], [3.0]], dtype=torch.float64)
    assert probability("log_sum_exp", h, r=1e-6) == pytest.approx(sigm(0.5), rel=1e-5)
    assert probability("log_sum_exp", h, r=100) == pytest.approx(sigm(3.0), rel=1e-3)
