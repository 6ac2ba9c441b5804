"""Combining scales: every part's contract, and the formulas by loops over tiles."""

import itertools
import math

import pytest
import torch

from mshisto_ray import components
from mshisto_ray.mil.combinations import (
    Finer,
)
from mshisto_ray.mil.model import COMBINATIONS

pytestmark = pytest.mark.usefixtures("every_form")

several = pytest.mark.parametrize("name", ["concat", "cross_scale"])
SMALL = {"cross_scale": {"width": 6, "heads": 2, "head_dim": 3}}
# Children of each coarse tile: none, one, some absent, a whole 2 x 2 and 4 x 4 area.
COUNTS = [[4, 4, 4], [0, 1, 4, 3, 0], [16, 0, 16], [0, 0], [300, 0, 5]]
counts = pytest.mark.parametrize("counts", COUNTS, ids=str)


def make(name, dims, dtype=torch.float64, **keys):
    torch.manual_seed(0)
    keys = SMALL.get(name, {}) | keys
    part = components.check(COMBINATIONS, components.Part(name=name, **keys))
    return components.build(COMBINATIONS, part, dims).to(dtype)


def tiles(counts, dims=(5, 4), dtype=torch.float64):
    torch.manual_seed(1)
    offsets = torch.tensor([0, *itertools.accumulate(counts)])
    h = torch.randn(len(counts), dims[0], dtype=dtype, requires_grad=True)
    fine = torch.randn(sum(counts), dims[1], dtype=dtype, requires_grad=True)
    return h, Finer(fine, offsets)


def each(values, offsets):
    return [values[a:b] for a, b in itertools.pairwise(offsets.tolist())]


@counts
def test_cross_scale_equals_a_loop_over_tiles_heads_and_children(counts):
    module = make("cross_scale", (5, 4))
    h, fine = tiles(counts)
    out, (weights,) = module(h, [fine])
    (pair,) = module.pairs
    for i, (token, children) in enumerate(
        zip(h, each(fine.h, fine.offsets), strict=True)
    ):
        if not len(children):
            torch.testing.assert_close(out[i], token)
            continue
        query = pair.query(pair.reduce(token))
        heads, mean = [], 0
        for head in (slice(0, 3), slice(3, 6)):
            scores = []
            for child in children:
                key = pair.key(pair.reduce_fine(child))
                scores.append(query[head] @ key[head] / math.sqrt(3))
            a = torch.softmax(torch.stack(scores), 0)
            values = [pair.value(pair.reduce_fine(child))[head] for child in children]
            heads.append(sum(ak * v for ak, v in zip(a, values, strict=True)))
            mean = mean + a / 2
        wanted = token + pair.enlarge(pair.out(torch.cat(heads)))
        torch.testing.assert_close(out[i], wanted)
        torch.testing.assert_close(each(weights, fine.offsets)[i], mean)


def test_the_papers_heads_are_no_split_of_the_width():
    module = make("cross_scale", (3000, 3000), torch.float32, heads=4, head_dim=128,
                  width=2048)  # fmt: skip
    (pair,) = module.pairs
    assert pair.query.weight.shape == (512, 2048)
    assert pair.out.weight.shape == (2048, 512)
    assert pair.enlarge.weight.shape == (3000, 2048)
    default = make("cross_scale", (64, 64), width=None)
    assert default.pairs[0].out.weight.shape[0] == 64


@counts
def test_concat_equals_a_loop(counts):
    module = make("concat", (5, 4))
    h, fine = tiles(counts)
    out, attention = module(h, [fine])
    assert module.width == out.shape[1] == 9 and attention == ()
    for i, children in enumerate(each(fine.h, fine.offsets)):
        mean = sum(children) / len(children) if len(children) else torch.zeros(4)
        torch.testing.assert_close(out[i], torch.cat([h[i], mean.double()]))


@several
def test_three_scales_go_through_the_middle(name):
    module = make(name, (5, 4, 3))
    h, middle = tiles([2, 0, 1])
    fine = Finer(torch.randn(5, 3).double(), torch.tensor([0, 4, 4, 5]))
    out, attention = module(h, [middle, fine])
    if name == "concat":
        means = [middle.h[:2].mean(0), fine.h[:4].mean(0)]
        torch.testing.assert_close(out[0], torch.cat([h[0], *means]))
        means = [middle.h[2], fine.h[4]]
        torch.testing.assert_close(out[2], torch.cat([h[2], *means]))
        torch.testing.assert_close(out[1], torch.cat([h[1], torch.zeros(7).double()]))
    else:
        outer, inner = module.pairs
        changed, weights = inner(middle.h, fine.h, fine.offsets)
        wanted, above = outer(h, changed, middle.offsets)
        torch.testing.assert_close(out, wanted)
        torch.testing.assert_close(attention, (above, weights))


@several
@counts
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
def test_gradients_are_finite_and_right(name, counts):
    module = make(name, (5, 4))
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
def test_only_a_tiles_own_children_matter_and_not_their_order(name, counts):
    module = make(name, (5, 4))
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
def test_bfloat16_agrees_with_float32(name):
    module = make(name, (5, 4), torch.float32)
    h, fine = tiles([4, 0, 3], dtype=torch.float32)
    full = module(h, [fine]).h
    with torch.autocast("cpu", torch.bfloat16):
        half = module(h, [fine]).h
    torch.testing.assert_close(half.float(), full, rtol=0.05, atol=0.05)


def test_one_scale_is_itself():
    h, _ = tiles([1, 1])
    module = make("single", (5,))
    out, attention = module(h, [])
    assert out is h and attention == () and module.width == 5
