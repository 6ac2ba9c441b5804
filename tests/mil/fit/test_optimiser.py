import math

import pytest
import torch
from torch import nn

from mshisto_ray import config
from mshisto_ray.config import InputError
from mshisto_ray.mil.fit.optimiser import MILOptimiserConfig, Rates, make_optimiser


def settings(**keys):
    return config.validate(MILOptimiserConfig, keys)


def model():
    return nn.Sequential(
        nn.Linear(20, 50), nn.ReLU(), nn.LayerNorm(50), nn.Linear(50, 1)
    )


def rates_of(optimiser, made):
    """The rate of each parameter, in order."""
    groups = optimiser.param_groups
    known = {id(p): group["lr"] for group in groups for p in group["params"]}
    return [known[id(p)] for p in made.parameters()]


def test_each_layer_has_the_rate_of_its_width():
    made = model()
    found = rates_of(make_optimiser(made, settings()), made)
    assert found == [0.1 / 20] * 2 + [0.1 / 256] * 2 + [0.1 / 50] * 2


def test_a_given_rate_is_that_of_all_layers():
    made = model()
    found = rates_of(make_optimiser(made, settings(name="adamw", lr=0.3)), made)
    assert found == [0.3] * 6


def test_a_first_step_changes_an_output_as_much_at_every_width():
    changes = []
    for width in (20, 2000):
        torch.manual_seed(0)
        layer, x = nn.Linear(width, 1), torch.randn(1, width)
        optimiser = make_optimiser(layer, settings())
        before = layer(x)
        before.sum().backward()
        optimiser.step()
        changes.append((before - layer(x)).item())
    assert changes[0] == pytest.approx(changes[1], rel=0.3)


def test_the_rate_rises_and_falls():
    optimiser = make_optimiser(nn.Linear(10, 1), settings(warmup_steps=4))
    rates, found = Rates(optimiser.param_groups, settings(warmup_steps=4), 100), []
    for _ in range(100):
        rates.advance()
        found.append(optimiser.param_groups[0]["lr"] / 0.01)
    assert found[:5] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    wanted = [(1 + math.cos(math.pi * k / 96)) / 2 for k in range(96)]
    assert found[4:] == pytest.approx(wanted)


def test_the_warm_up_is_at_most_a_tenth_of_the_steps():
    optimiser = make_optimiser(nn.Linear(10, 1), settings())
    rates = Rates(optimiser.param_groups, settings(), 20)
    rates.advance()
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0.005)
    rates.advance()
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0.01)


def test_a_constant_rate_without_warm_up():
    given = settings(name="sgd", lr=0.5, schedule="constant", warmup_steps=0)
    optimiser = make_optimiser(nn.Linear(10, 1), given)
    rates = Rates(optimiser.param_groups, given, 3)
    for _ in range(3):
        rates.advance()
        assert optimiser.param_groups[0]["lr"] == 0.5


def test_sgd_needs_a_rate():
    with pytest.raises(InputError, match=r"lr: null .* give one for sgd"):
        settings(name="sgd")
