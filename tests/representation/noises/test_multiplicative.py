import torch
from fixtures.spaces import generator, space

from mshisto_ray.representation.noises import multiplicative

EXAMPLES = [{"sigma": 0.3}]


def test_noise_grows_with_the_value_and_spares_zeros():
    noise = multiplicative.build(space(), sigma=0.3)
    values = torch.tensor([0.0, 1.0, -4.0]).expand(20000, 3)
    added = noise(values, generator(0)) - values
    torch.testing.assert_close(
        added.std(0), torch.tensor([0.0, 0.3, 1.2]), rtol=0.03, atol=0
    )
