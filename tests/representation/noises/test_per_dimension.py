import torch
from fixtures.spaces import generator, rows

from mshisto_ray.representation.noises import per_dimension
from mshisto_ray.representation.space import Space

EXAMPLES = [{"sigma": 0.5}]


def test_each_dimension_has_its_own_spread():
    spread = torch.tensor([2.0, 1.0, 0.0])
    noise = per_dimension.build(Space.of(rows(dim=3) * spread), sigma=0.5)
    added = noise(torch.zeros(20000, 3), generator(0))
    torch.testing.assert_close(added.std(0), spread / 2, rtol=0.03, atol=0)
