"""What every noise owes, whoever adds it."""

import pytest
import torch
from fixtures.parts import checked, examples

from mshisto_ray import components

FAMILY = "mshisto_ray.representation.noises"


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("part", examples(FAMILY))
def test_noise_is_fresh_and_decided_by_the_generator(part):
    noise = components.build(FAMILY, checked(FAMILY, part))
    values = torch.randn(50, 4, generator=generator(9))
    before = values.clone()
    rng = generator(0)
    first, second = noise(values, rng), noise(values, rng)
    assert first.shape == values.shape and first.dtype == values.dtype
    assert not torch.equal(first, second)
    assert torch.equal(first, noise(values, generator(0)))
    assert torch.equal(values, before)
