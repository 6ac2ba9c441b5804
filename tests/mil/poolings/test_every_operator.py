"""What a pooling of instance logits owes, whose test holds ``p_of_logits``."""

import itertools

import pytest
import torch
from fixtures.parts import held
from fixtures.poolings import identity

from mshisto_ray import components
from mshisto_ray.mil.model import POOLINGS


def p_of(name):
    """P of one bag of plain floats, as the pooling's test has it."""
    return held(POOLINGS, name, "p_of_logits", None)


OPERATORS = [name for name in components.available(POOLINGS) if p_of(name)]
PARAMETERS = [
    (name, keys)
    for name in OPERATORS
    for keys in held(POOLINGS, name, "PARAMETERS", [])
]
every = pytest.mark.parametrize("name", OPERATORS)


@every
@pytest.mark.parametrize("sizes", [[1, 3, 40, 2], [70, 120, 1]], ids=str)
def test_two_classes_equal_the_formula(name, sizes):
    h = torch.randn(sum(sizes), 1, dtype=torch.float64) * 2
    ends = [0, *itertools.accumulate(sizes)]
    out = identity(name)(h, torch.tensor(ends))
    for i, (a, b) in enumerate(itertools.pairwise(ends)):
        p = p_of(name)(h[a:b, 0].tolist())
        found = out.log_probabilities[i].exp().tolist()
        assert found == pytest.approx([1 - p, p], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("name", "keys"), PARAMETERS, ids=str)
@pytest.mark.parametrize("shift", [-6, 0, 6])
def test_parameters_equal_the_formula(name, keys, shift):
    logits = (torch.randn(7, dtype=torch.float64) * 2 + shift).tolist()
    bag = torch.tensor(logits, dtype=torch.float64)[:, None]
    out = identity(name, **keys)(bag, torch.tensor([0, 7]))
    p = p_of(name)(logits, **keys)
    assert out.log_probabilities.exp()[0].tolist() == pytest.approx([1 - p, p], 1e-7)


@every
def test_more_classes_are_a_softmax_of_log_odds(name):
    h = torch.randn(9, 3, dtype=torch.float64)
    out = identity(name, num_classes=3)(h, torch.tensor([0, 4, 9]))
    for i, bag in enumerate((h[:4], h[4:])):
        p = [p_of(name)(column.tolist()) for column in bag.T]
        odds = [pc / (1 - pc) for pc in p]
        wanted = [value / sum(odds) for value in odds]
        assert out.log_probabilities[i].exp().tolist() == pytest.approx(wanted, 1e-9)


@every
@pytest.mark.parametrize("logit", [-200.0, -90.0, -30.0, 30.0, 90.0, 200.0])
def test_extreme_logits_keep_value_and_gradient_in_float32(name, logit):
    bag = torch.full((5, 1), logit, requires_grad=True)
    out = identity(name, dtype=torch.float32)(bag, torch.tensor([0, 5]))
    exact = identity(name)(bag.detach().double(), torch.tensor([0, 5]))
    torch.testing.assert_close(
        out.log_probabilities.double(), exact.log_probabilities, rtol=1e-4, atol=1e-30
    )
    # The loss of the class that it is most wrong about pulls on every instance.
    (gradient,) = torch.autograd.grad(-out.log_probabilities.min(), bag)
    assert torch.isfinite(gradient).all() and (gradient != 0).all()
