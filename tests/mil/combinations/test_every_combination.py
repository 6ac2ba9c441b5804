"""What every combination of scales owes, whoever adds it."""

import itertools

import pytest
import torch
from fixtures.combinations import COUNTS, make, tiles
from fixtures.parts import examples

from mshisto_ray import components
from mshisto_ray.mil.combinations import Finer
from mshisto_ray.mil.model import COMBINATIONS

pytestmark = pytest.mark.usefixtures("every_form")

several = pytest.mark.parametrize(
    "part",
    [
        part
        for part in examples(COMBINATIONS)
        if not components.declaration(
            COMBINATIONS, part.values[0][0], "ONE_SCALE", False
        )
    ],
)
counts = pytest.mark.parametrize("counts", COUNTS, ids=str)


@several
@counts
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
def test_gradients_are_finite_and_right(part, counts):
    module = make(part, (5, 4))
    h, fine = tiles(counts)

    def outputs(coarse, children):
        out, attention = module(coarse, [Finer(children, fine.offsets)])
        return (out, *attention)

    with torch.autograd.detect_anomaly():  # no NaN on the way either
        out = module(h, [fine])
        out.h.sum().backward()
    for value in (h.grad, fine.h.grad, *(p.grad for p in module.parameters())):
        assert torch.isfinite(value).all()
    if sum(counts) < 40:
        assert torch.autograd.gradcheck(outputs, (h, fine.h))


@several
@counts
def test_only_a_tiles_own_children_matter_and_not_their_order(part, counts):
    module = make(part, (5, 4))
    h, fine = tiles(counts)
    out = module(h, [fine]).h
    for i, (a, b) in enumerate(itertools.pairwise(fine.offsets.tolist())):
        order = torch.arange(len(fine.h))
        order[a:b] = a + torch.randperm(b - a)
        other = torch.randn_like(fine.h)
        other[a:b] = fine.h[order][a:b]
        found = module(h, [Finer(other, fine.offsets)]).h
        torch.testing.assert_close(found[i], out[i])


@several
def test_bfloat16_agrees_with_float32(part):
    module = make(part, (5, 4), torch.float32)
    h, fine = tiles([4, 0, 3], dtype=torch.float32)
    full = module(h, [fine]).h
    with torch.autocast("cpu", torch.bfloat16):
        half = module(h, [fine]).h
    torch.testing.assert_close(half.float(), full, rtol=0.05, atol=0.05)


@several
def test_three_scales_give_finite_instances_of_its_width(part):
    module = make(part, (5, 4, 3))
    h, middle = tiles([2, 0, 1])
    fine = Finer(torch.randn(5, 3).double(), torch.tensor([0, 4, 4, 5]))
    out, attention = module(h, [middle, fine])
    assert out.shape == (3, module.width) and torch.isfinite(out).all()
    assert [len(a) for a in attention] in ([], [3, 5])
