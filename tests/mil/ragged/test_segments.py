import itertools

import pytest
import torch

from mshisto_ray.mil.ragged import segments

pytestmark = pytest.mark.usefixtures("every_form")

SHORT, LONG = [1, 5, 2, 9], [1, 300, 70, 2]
REDUCTIONS = {
    "sum": (segments.segment_sum, lambda x: x.sum(0)),
    "mean": (segments.segment_mean, lambda x: x.mean(0)),
    "max": (segments.segment_max, lambda x: x.amax(0)),
    "logsumexp": (segments.segment_logsumexp, lambda x: x.logsumexp(0)),
}


def batch(sizes, dim=3, dtype=torch.float64):
    offsets = torch.tensor([0, *torch.tensor(sizes).cumsum(0).tolist()])
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(sum(sizes), dim, dtype=dtype, generator=generator)
    return values.requires_grad_(), offsets


def bags(values, offsets):
    return [values[a:b] for a, b in itertools.pairwise(offsets)]


@pytest.mark.parametrize("sizes", [SHORT, LONG, [4]], ids=["short", "long", "one"])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_value_and_gradient_equal_a_loop(name, sizes):
    reduce, naive = REDUCTIONS[name]
    values, offsets = batch(sizes)
    found = reduce(values, offsets)
    wanted = torch.stack([naive(bag) for bag in bags(values, offsets)])
    torch.testing.assert_close(found, wanted)
    weight = torch.randn_like(found)
    (one,) = torch.autograd.grad((found * weight).sum(), values, retain_graph=True)
    (two,) = torch.autograd.grad((wanted * weight).sum(), values)
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("sizes", [SHORT, LONG, [4]], ids=["short", "long", "one"])
def test_softmax_and_weighted_sum_equal_a_loop(sizes):
    values, offsets = batch(sizes)
    scores = values[:, 0] * 3
    weights = segments.segment_softmax(scores, offsets)
    wanted = torch.cat([bag.softmax(0) for bag in bags(scores, offsets)])
    torch.testing.assert_close(weights, wanted)
    found = segments.segment_weighted_sum(weights, values, offsets)
    pairs = zip(bags(wanted, offsets), bags(values, offsets), strict=True)
    naive = torch.stack([(w[:, None] * v).sum(0) for w, v in pairs])
    torch.testing.assert_close(found, naive)
    one = torch.autograd.grad(found.square().sum(), values, retain_graph=True)
    two = torch.autograd.grad(naive.square().sum(), values)
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("sizes", [SHORT, LONG], ids=["short", "long"])
def test_large_scores_do_not_overflow(sizes):
    values, offsets = batch(sizes, dtype=torch.float32)
    shifted = values.detach() + 1000
    weights = segments.segment_softmax(shifted[:, 0], offsets)
    assert torch.isfinite(weights).all()
    found = segments.segment_logsumexp(shifted, offsets)
    wanted = segments.segment_logsumexp(values.detach(), offsets) + 1000
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("sizes", [SHORT, LONG], ids=["short", "long"])
def test_half_precision_is_reduced_in_float32(sizes):
    values, offsets = batch([s * 10 for s in sizes], dtype=torch.bfloat16)
    found = segments.segment_mean(values, offsets)
    assert found.dtype == torch.float32
    wanted = torch.stack([b.double().mean(0) for b in bags(values, offsets)])
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 2, 2, 5], "empty bag at place 1 of"),
        ([0], "empty bag at place none"),
        ([0, 2, 4], r"offsets 0\.\.4 do not cover 5"),
        ([1, 5], r"offsets 1\.\.5 do not cover 5"),
    ],
)
def test_bad_offsets_are_refused(offsets, message):
    with pytest.raises(ValueError, match=message):
        segments.check_bags(torch.zeros(5, 2), torch.tensor(offsets))
