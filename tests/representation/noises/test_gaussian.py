import pytest
import torch
from fixtures.spaces import generator, space

from mshisto_ray import components

FAMILY = "mshisto_ray.representation.noises"
EXAMPLES = [{"sigma": 0.5}]


def test_gaussian_strength_and_neutral_value():
    build = components.builder(FAMILY, "gaussian")
    values = torch.zeros(20000, 3)
    added = build(space(), sigma=0.25)(values, generator(0))
    torch.testing.assert_close(added.std(0), torch.full((3,), 0.25), rtol=0.03, atol=0)
    torch.testing.assert_close(added.mean(0), torch.zeros(3), rtol=0, atol=0.01)
    assert torch.equal(build(space(), sigma=0)(values, generator(0)), values)


def test_negative_sigma_is_refused():
    with pytest.raises(ValueError, match=r"gaussian\.sigma"):
        components.check(FAMILY, components.Part(name="gaussian", sigma=-1))
