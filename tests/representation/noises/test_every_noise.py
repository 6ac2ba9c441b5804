"""What every noise owes, whoever adds it."""

import pytest
import torch
from fixtures.parts import checked, examples
from fixtures.spaces import generator, rows, space

from mshisto_ray import components

FAMILY = "mshisto_ray.representation.noises"


def built(part, folder):
    return components.build(FAMILY, checked(FAMILY, part, folder), space())


@pytest.mark.parametrize("part", examples(FAMILY))
def test_noise_is_fresh_and_decided_by_the_generator(part, tmp_path):
    noise = built(part, tmp_path)
    values = torch.randn(50, 6, generator=generator(9))
    before = values.clone()
    rng = generator(0)
    first, second = noise(values, rng), noise(values, rng)
    assert first.shape == values.shape and first.dtype == values.dtype
    assert not torch.equal(first, second)
    assert torch.equal(first, noise(values, generator(0)))
    assert torch.equal(values, before)


@pytest.mark.parametrize("part", examples(FAMILY))
def test_sigma_is_the_relative_strength_of_every_noise(part, tmp_path):
    checked_part = checked(FAMILY, part, tmp_path)
    sigma = checked_part.parameters.get("sigma")
    if not isinstance(sigma, float) or not sigma:
        return
    values = rows(4000)
    found = built(part, tmp_path)(values, generator(1))
    energy = (found - values).square().sum() / values.square().sum()
    torch.testing.assert_close(energy.sqrt(), torch.tensor(sigma), rtol=0.05, atol=0)


@pytest.mark.parametrize("part", examples(FAMILY))
def test_no_strength_changes_nothing(part, tmp_path):
    filled = checked(FAMILY, part, tmp_path)
    if "sigma" not in filled.parameters:
        return
    none = components.Part(name=filled.name, **{**filled.parameters, "sigma": 0.0})
    values = rows(20)
    found = components.build(FAMILY, none, space())(values, generator(0))
    assert torch.equal(found, values)
