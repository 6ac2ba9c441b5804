import pytest
import torch
from fixtures.combinations import COUNTS, each, make, tiles

from mshisto_ray.mil.combinations import Finer

pytestmark = pytest.mark.usefixtures("every_form")
counts = pytest.mark.parametrize("counts", COUNTS, ids=str)


@counts
def test_concat_equals_a_loop(counts):
    module = make("concat", (5, 4))
    h, fine = tiles(counts)
    out, attention = module(h, [fine])
    assert module.width == out.shape[1] == 9 and attention == ()
    for i, children in enumerate(each(fine.h, fine.offsets)):
        mean = sum(children) / len(children) if len(children) else torch.zeros(4)
        torch.testing.assert_close(out[i], torch.cat([h[i], mean.double()]))


def test_three_scales_go_through_the_middle():
    module = make("concat", (5, 4, 3))
    h, middle = tiles([2, 0, 1])
    fine = Finer(torch.randn(5, 3).double(), torch.tensor([0, 4, 4, 5]))
    out, _ = module(h, [middle, fine])
    means = [middle.h[:2].mean(0), fine.h[:4].mean(0)]
    torch.testing.assert_close(out[0], torch.cat([h[0], *means]))
    means = [middle.h[2], fine.h[4]]
    torch.testing.assert_close(out[2], torch.cat([h[2], *means]))
    torch.testing.assert_close(out[1], torch.cat([h[1], torch.zeros(7).double()]))
