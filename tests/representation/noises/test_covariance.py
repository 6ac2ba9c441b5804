import torch
from fixtures.spaces import generator, rows, space

from mshisto_ray.representation.noises import covariance
from mshisto_ray.representation.space import Space

EXAMPLES = [{"sigma": 0.5}]


def test_noise_has_the_covariance_of_the_training_rows():
    noise = covariance.build(space(), sigma=0.5)
    added = noise(torch.zeros(100000, 6), generator(0))
    torch.testing.assert_close(added.T.cov(), rows().T.cov() / 4, rtol=0, atol=0.01)


def test_noise_stays_where_rows_vary():
    flat = torch.randn(50, 2, generator=generator(1)) @ torch.randn(
        2, 40, generator=generator(2)
    )
    noise = covariance.build(Space.of(flat), sigma=1)
    added = noise(torch.zeros(30, 40), generator(0))
    assert torch.linalg.matrix_rank(added, rtol=1e-4) == 2
