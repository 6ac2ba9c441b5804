import pytest
import torch

from mshisto_ray import components

FAMILY = "mshisto_ray.representation.noises"


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", components.available(FAMILY))
def test_noise_is_fresh_and_decided_by_the_generator(name):
    part = components.check(FAMILY, components.Part(name=name, sigma=0.5))
    noise = components.build(FAMILY, part)
    values = torch.randn(50, 4, generator=generator(9))
    before = values.clone()
    rng = generator(0)
    first, second = noise(values, rng), noise(values, rng)
    assert first.shape == values.shape and first.dtype == values.dtype
    assert not torch.equal(first, second)
    assert torch.equal(first, noise(values, generator(0)))
    assert torch.equal(values, before)


def test_gaussian_strength_and_neutral_value():
    build = components.builder(FAMILY, "gaussian")
    values = torch.zeros(20000, 3)
    added = build(sigma=0.25)(values, generator(0))
    torch.testing.assert_close(added.std(0), torch.full((3,), 0.25), rtol=0.03, atol=0)
    torch.testing.assert_close(added.mean(0), torch.zeros(3), rtol=0, atol=0.01)
    assert torch.equal(build(sigma=0)(values, generator(0)), values)


def test_negative_sigma_is_refused():
    with pytest.raises(ValueError, match=r"gaussian\.sigma"):
        components.check(FAMILY, components.Part(name="gaussian", sigma=-1))
