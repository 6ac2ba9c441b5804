import pytest
import torch
from fixtures.spaces import generator, space

from mshisto_ray.config import InputError
from mshisto_ray.representation.noises import per_view

EXAMPLES = [{"sigma": 0.5}]


def test_each_view_has_its_own_strength():
    noise = per_view.build(space(views=(4, 2)), sigma=(0.0, 0.5))
    added = noise(torch.zeros(20000, 6), generator(0))
    assert not added[:, :4].any()
    torch.testing.assert_close(
        added[:, 4:].std(0), torch.full((2,), 0.5), rtol=0.03, atol=0
    )


@pytest.mark.parametrize(("reduced", "num"), [(False, "2 view"), (True, "1 view")])
def test_another_number_of_strengths_is_refused(reduced, num):
    with pytest.raises(InputError, match=rf"noise\.sigma: 3 strengths for {num}"):
        per_view.check((4, 2), reduced, sigma=(0.1, 0.1, 0.1))
