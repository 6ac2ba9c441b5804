import math

import numpy as np
import pytest
import torch
from fixtures.poolings import probability

from mshisto_ray.mil.poolings import noisy_or


def sigm(x):
    return 1 / (1 + math.exp(-x))


def p_of_logits(logits):
    return 1 - math.prod(1 - sigm(x) for x in logits)


def test_noisy_or_saturates_in_large_bags_as_documented():
    logit = math.log(1e-3 / (1 - 1e-3))
    bag = torch.full((5000, 1), logit, dtype=torch.float64)
    assert probability("noisy_or", bag) == pytest.approx(0.9933, abs=1e-4)


def test_bags_in_which_it_saturates_are_noted():
    assert noisy_or.notes(np.array([0, 400, 500])) == []
    assert noisy_or.notes(np.array([0])) == []
    (note,) = noisy_or.notes(np.array([0, 400, 600, 800]))
    assert "for bags of 600 instances (the median here)" in note
