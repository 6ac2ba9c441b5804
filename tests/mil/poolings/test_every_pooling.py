"""The contract of every pooling."""

import itertools

import pytest
import torch
from fixtures.parts import examples, held
from fixtures.poolings import alone, bags, batch, declares, pooling

from mshisto_ray.mil.model import POOLINGS
from mshisto_ray.mil.poolings import log_probabilities

pytestmark = pytest.mark.usefixtures("every_form")

every = pytest.mark.parametrize("part", examples(POOLINGS))
classes = pytest.mark.parametrize("num_classes", [2, 3])
# Both ways of reducing bags, see segments.
sizes = pytest.mark.parametrize("sizes", [[3, 1, 7], [90, 1, 150]], ids=str)


@every
@classes
@sizes
def test_shapes_and_probabilities(part, num_classes, sizes):
    h, offsets = batch(sizes)
    out = pooling(part, num_classes)(h, offsets)
    assert out.log_probabilities.shape == (len(sizes), num_classes)
    total = out.log_probabilities.exp().sum(1)
    torch.testing.assert_close(total, torch.ones(len(sizes)))
    if out.attention is not None:
        assert out.attention.shape == (len(h),) and (out.attention >= 0).all()
        sums = torch.stack([a.sum() for a in bags(out.attention, offsets)])
        torch.testing.assert_close(sums, torch.ones(len(sizes)))
    if out.class_attention is not None:
        assert out.class_attention.shape == (len(h), num_classes)
        sums = torch.stack([a.sum(0) for a in bags(out.class_attention, offsets)])
        torch.testing.assert_close(sums, torch.ones(len(sizes), num_classes))
        torch.testing.assert_close(out.attention, out.class_attention.mean(1))
    if out.instance_probabilities is not None:
        assert out.instance_probabilities.shape == (len(h), num_classes)
        total = out.instance_probabilities.sum(1)
        torch.testing.assert_close(total, torch.ones(len(h)))


@every
@classes
def test_outputs_are_what_the_probabilities_are_made_of(part, num_classes):
    """Of a pooling that says that it needs classes there are none."""
    out = pooling(part, num_classes)(*batch([3, 1, 7]))
    assert (out.outputs is None) == declares(part, "NEEDS_CLASSES")
    if out.outputs is not None:
        torch.testing.assert_close(
            log_probabilities(out.outputs), out.log_probabilities
        )


@every
@classes
@sizes
def test_order_of_instances_changes_nothing(part, num_classes, sizes):
    pool = pooling(part, num_classes, torch.float64)
    h, offsets = batch(sizes, torch.float64)
    order = torch.cat(
        [a + torch.randperm(b - a) for a, b in itertools.pairwise(offsets)]
    )
    one, two = pool(h, offsets), pool(h[order], offsets)
    targets = torch.arange(len(sizes)) % num_classes
    torch.testing.assert_close(one.log_probabilities, two.log_probabilities)
    torch.testing.assert_close(one.loss(targets), two.loss(targets))
    if one.attention is not None:
        torch.testing.assert_close(one.attention[order], two.attention)


@every
@classes
@sizes
def test_other_bags_of_the_batch_change_nothing(part, num_classes, sizes):
    pool = pooling(part, num_classes, torch.float64)
    h, offsets = batch(sizes, torch.float64)
    together = pool(h, offsets)
    separate = [alone(pool, bag) for bag in bags(h, offsets)]
    targets = torch.arange(len(sizes)) % num_classes
    losses = [s.loss(t[None]) for s, t in zip(separate, targets, strict=True)]
    torch.testing.assert_close(together.loss(targets), torch.cat(losses))
    for key in (
        "log_probabilities", "attention", "instance_probabilities", "class_attention"
    ):  # fmt: skip
        if getattr(together, key) is not None:
            parts = torch.cat([getattr(s, key) for s in separate])
            torch.testing.assert_close(getattr(together, key), parts)


@every
@classes
def test_a_bag_of_one_instance_is_that_instance(part, num_classes):
    pool = pooling(part, num_classes)
    h, _ = batch([1])
    out = alone(pool, h)
    twice = alone(pool, h.repeat(2, 1))
    if not declares(part, "DEPENDS_ON_COUNT"):
        torch.testing.assert_close(out.log_probabilities, twice.log_probabilities)
    if out.instance_probabilities is not None and not declares(part, "INSTANCES_APART"):
        found = out.log_probabilities.exp()
        torch.testing.assert_close(found, out.instance_probabilities)
    if out.attention is not None:
        assert out.attention.tolist() == [1]


@every
def test_an_empty_bag_is_refused(part):
    h, _ = batch([3, 4])
    with pytest.raises(ValueError, match="empty bag at place 1 of the batch"):
        pooling(part)(h, torch.tensor([0, 3, 3, 7]))


@every
@classes
@sizes
def test_gradients_are_finite(part, num_classes, sizes):
    """Also of instances ten thousand times as large, and in half precision."""
    for autocast, scale in itertools.product((False, True), (1, 1e4)):
        pool = pooling(part, num_classes)
        h, offsets = batch(sizes)
        h = (h * scale).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = pool(h, offsets)
        assert out.log_probabilities.dtype == torch.float32
        losses = [
            out.loss(torch.full((len(sizes),), c)).sum() for c in range(num_classes)
        ]
        sum(losses).backward()
        assert torch.isfinite(out.log_probabilities).all()
        for value in (h, *pool.parameters()):
            assert value.grad is not None and torch.isfinite(value.grad).all()
        assert sum(p.grad.abs().sum() for p in pool.parameters()) > 0


@every
@classes
def test_autocast_agrees_with_float32(part, num_classes):
    pool = pooling(part, num_classes)
    h, offsets = batch([3, 1, 7])
    with torch.autocast("cpu", torch.bfloat16):
        half = pool(h, offsets).log_probabilities
    full = pool(h, offsets).log_probabilities
    torch.testing.assert_close(half, full, rtol=0.05, atol=0.05)


@every
@classes
@sizes
def test_gradients_are_those_of_finite_differences(part, num_classes, sizes):
    """Of the instances and of every weight."""
    pool = pooling(part, num_classes, torch.float64)
    h, offsets = batch(sizes, torch.float64)
    names, weights = zip(*pool.named_parameters(), strict=True)

    def outputs(values, *weights):
        parameters = dict(zip(names, weights, strict=True))
        out = torch.func.functional_call(pool, parameters, (values, offsets))
        losses = out.loss(torch.arange(len(sizes)) % num_classes)
        kept = (out.log_probabilities, losses, out.attention)
        kept = (*kept, out.instance_probabilities, out.class_attention)
        return tuple(k for k in kept if k is not None)

    h.requires_grad_()
    # Along random directions; of few instances every derivative.
    assert torch.autograd.gradcheck(outputs, (h, *weights), fast_mode=True)
    if len(h) < 20:
        assert torch.autograd.gradcheck(lambda values: outputs(values, *weights), (h,))


@every
@sizes
def test_equals_the_formula_that_its_test_holds(part, sizes):
    """On one bag, two classes, in plain steps: P of the second, and the attention."""
    oracle = held(POOLINGS, part[0], "oracle", None)
    if oracle is None:
        return  # its test compares more than these two
    pool = pooling(part, dtype=torch.float64)
    h, offsets = batch(sizes, torch.float64)
    out = pool(h, offsets)
    for i, bag in enumerate(bags(h, offsets)):
        p, a = oracle(pool, bag)
        log = out.log_probabilities[i]
        torch.testing.assert_close(log, torch.stack([1 - p, p]).log())
        if a is not None:
            torch.testing.assert_close(out.attention[offsets[i] : offsets[i + 1]], a)


@every
def test_repeating_the_whole_bag_changes_only_a_count(part):
    """No padding by repeated instances hides in a pooling, nor does a position."""
    if declares(part, "DEPENDS_ON_COUNT"):
        return
    pool, (bag, _) = pooling(part, dtype=torch.float64), batch([30], torch.float64)
    once = pool(bag, torch.tensor([0, 30])).log_probabilities
    thrice = pool(bag.repeat(3, 1), torch.tensor([0, 90])).log_probabilities
    torch.testing.assert_close(once, thrice)
