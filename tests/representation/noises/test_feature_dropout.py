import torch
from fixtures.spaces import generator, space

from mshisto_ray.representation.noises import feature_dropout

EXAMPLES = [{"sigma": 0.5}]


def test_a_fifth_is_dropped_and_the_mean_is_kept():
    noise = feature_dropout.build(space(), sigma=0.5)
    found = noise(torch.ones(20000, 6), generator(0))
    assert set(found.unique().tolist()) == {0.0, 1.25}
    assert abs((found == 0).float().mean() - 0.2) < 0.01
