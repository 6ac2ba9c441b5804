"""The poolings of instance logits against their formulas, step by step."""

import itertools
import math

import pytest
import torch

from mshisto_ray import components
from mshisto_ray.mil.model import POOLINGS

OPERATORS = ["noisy_or", "noisy_and", "log_sum_exp", "generalised_mean", "top_k"]
every = pytest.mark.parametrize("name", OPERATORS)


def identity(name, num_classes=2, dtype=torch.float64, **keys):
    """The operator with instances that are their own logits."""
    part = components.check(POOLINGS, components.Part(name=name, **keys))
    width = 1 if num_classes == 2 else num_classes
    pool = components.build(POOLINGS, part, width, num_classes).to(dtype)
    with torch.no_grad():
        pool.classifier.weight.copy_(torch.eye(width))
        pool.classifier.bias.zero_()
        if name == "noisy_and":
            pool.threshold.fill_(-0.4)
    return pool


def sigm(x):
    return 1 / (1 + math.exp(-x))


def naive(name, logits, **keys):
    """P of one bag of plain floats."""
    p = [sigm(x) for x in logits]
    if name == "noisy_or":
        return 1 - math.prod(1 - pk for pk in p)
    if name == "noisy_and":
        a, b, m = keys.get("slope", 10.0), sigm(-0.4), sum(p) / len(p)
        low = sigm(-a * b)
        return (sigm(a * (m - b)) - low) / (sigm(a * (1 - b)) - low)
    if name == "log_sum_exp":
        r = keys.get("r", 1.0)
        return sigm(math.log(sum(math.exp(r * x) for x in logits) / len(logits)) / r)
    if name == "generalised_mean":
        r = keys.get("r", 4.0)
        return (sum(pk**r for pk in p) / len(p)) ** (1 / r)
    top = sorted(logits, reverse=True)[: keys.get("k", 10)]
    return sigm(sum(top) / len(top))


@every
@pytest.mark.parametrize("sizes", [[1, 3, 40, 2], [70, 120, 1]], ids=str)
def test_two_classes_equal_the_formula(name, sizes):
    h = torch.randn(sum(sizes), 1, dtype=torch.float64) * 2
    ends = [0, *itertools.accumulate(sizes)]
    out = identity(name)(h, torch.tensor(ends))
    for i, (a, b) in enumerate(itertools.pairwise(ends)):
        p = naive(name, h[a:b, 0].tolist())
        found = out.log_probabilities[i].exp().tolist()
        assert found == pytest.approx([1 - p, p], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("log_sum_exp", {"r": 0.1}),
        ("log_sum_exp", {"r": 8.0}),
        ("generalised_mean", {"r": 1.0}),
        ("generalised_mean", {"r": 0.5}),
        ("generalised_mean", {"r": 20.0}),
        ("noisy_and", {"slope": 3.0}),
        ("top_k", {"k": 3}),
    ],
)
@pytest.mark.parametrize("shift", [-6, 0, 6])
def test_parameters_equal_the_formula(name, keys, shift):
    logits = (torch.randn(7, dtype=torch.float64) * 2 + shift).tolist()
    bag = torch.tensor(logits, dtype=torch.float64)[:, None]
    out = identity(name, **keys)(bag, torch.tensor([0, 7]))
    p = naive(name, logits, **keys)
    assert out.log_probabilities.exp()[0].tolist() == pytest.approx([1 - p, p], 1e-7)


@every
def test_more_classes_are_a_softmax_of_log_odds(name):
    h = torch.randn(9, 3, dtype=torch.float64)
    out = identity(name, num_classes=3)(h, torch.tensor([0, 4, 9]))
    for i, bag in enumerate((h[:4], h[4:])):
        p = [naive(name, column.tolist()) for column in bag.T]
        odds = [pc / (1 - pc) for pc in p]
        wanted = [value / sum(odds) for value in odds]
        assert out.log_probabilities[i].exp().tolist() == pytest.approx(wanted, 1e-9)


@every
@pytest.mark.parametrize("logit", [-200.0, -90.0, -30.0, 30.0, 90.0, 200.0])
def test_extreme_logits_keep_value_and_gradient_in_float32(name, logit):
    bag = torch.full((5, 1), logit, requires_grad=True)
    out = identity(name, dtype=torch.float32)(bag, torch.tensor([0, 5]))
    exact = identity(name)(bag.detach().double(), torch.tensor([0, 5]))
    torch.testing.assert_close(
        out.log_probabilities.double(), exact.log_probabilities, rtol=1e-4, atol=1e-30
    )
    # The loss of the class that it is most wrong about pulls on every instance.
    (gradient,) = torch.autograd.grad(-out.log_probabilities.min(), bag)
    assert torch.isfinite(gradient).all() and (gradient != 0).all()


def test_noisy_or_saturates_in_large_bags_as_documented():
    logit = math.log(1e-3 / (1 - 1e-3))
    bag = torch.full((5000, 1), logit, dtype=torch.float64)
    out = identity("noisy_or")(bag, torch.tensor([0, 5000]))
    assert out.log_probabilities.exp()[0, 1].item() == pytest.approx(0.9933, abs=1e-4)


def test_top_1_is_the_maximum_and_top_of_all_is_the_mean_logit():
    h = torch.randn(12, 1, dtype=torch.float64)
    offsets = torch.tensor([0, 5, 12])
    largest = identity("instance_max")(h, offsets).log_probabilities
    found = identity("top_k", k=1)(h, offsets).log_probabilities
    torch.testing.assert_close(found, largest)
    means = torch.stack([h[:5].mean(), h[5:].mean()])
    found = identity("top_k", k=100)(h, offsets).log_probabilities
    torch.testing.assert_close(found[:, 1], torch.nn.functional.logsigmoid(means))


def test_r_goes_from_mean_to_maximum():
    h = torch.tensor([[-2.0], [0.5], [3.0]], dtype=torch.float64)
    offsets = torch.tensor([0, 3])

    def p(name, **keys):
        return identity(name, **keys)(h, offsets).log_probabilities.exp()[0, 1].item()

    assert p("log_sum_exp", r=1e-6) == pytest.approx(sigm(0.5), rel=1e-5)
    assert p("log_sum_exp", r=100) == pytest.approx(sigm(3.0), rel=1e-3)
    assert p("generalised_mean", r=1) == pytest.approx(p("instance_mean"))
    assert p("generalised_mean", r=100) == pytest.approx(sigm(3.0), rel=2e-2)
