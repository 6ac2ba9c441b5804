"""The contract of every pooling."""

import itertools

import pytest
import torch

from mshisto_ray import components
from mshisto_ray.mil.model import POOLINGS

pytestmark = pytest.mark.usefixtures("every_form")

NAMES = components.available(POOLINGS)
DIM = 6
every = pytest.mark.parametrize("name", NAMES)
classes = pytest.mark.parametrize("num_classes", [2, 3])
# Both ways of reducing bags, see segments.
sizes = pytest.mark.parametrize("sizes", [[3, 1, 7], [90, 1, 150]], ids=str)


# Small where the default is for slides.
SMALL = {
    "transformer": {"width": 8, "heads": 2, "points": 3},
    "clam": {"hidden": 8, "num": 2, "subtyping": True, "per_class": True},
}


def pooling(name, num_classes=2, dtype=torch.float32, dim=DIM, **keys):
    torch.manual_seed(0)
    keys = SMALL.get(name, {}) | keys
    part = components.check(POOLINGS, components.Part(name=name, **keys))
    return components.build(POOLINGS, part, dim, num_classes).to(dtype)


def batch(sizes, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    h = torch.randn(sum(sizes), DIM, dtype=dtype, generator=generator)
    return h, torch.tensor([0, *torch.tensor(sizes).cumsum(0).tolist()])


def bags(values, offsets):
    return [values[a:b] for a, b in itertools.pairwise(offsets)]


def alone(pool, bag):
    return pool(bag, torch.tensor([0, len(bag)]))


@every
@classes
@sizes
def test_shapes_and_probabilities(name, num_classes, sizes):
    h, offsets = batch(sizes)
    out = pooling(name, num_classes)(h, offsets)
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
@sizes
def test_order_of_instances_changes_nothing(name, num_classes, sizes):
    pool = pooling(name, num_classes, torch.float64)
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
def test_other_bags_of_the_batch_change_nothing(name, num_classes, sizes):
    pool = pooling(name, num_classes, torch.float64)
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
def test_a_bag_of_one_instance_is_that_instance(name, num_classes):
    pool = pooling(name, num_classes)
    h, _ = batch([1])
    out = alone(pool, h)
    twice = alone(pool, h.repeat(2, 1))
    # For a noisy-or a repeated instance is more evidence.
    if name != "noisy_or":
        torch.testing.assert_close(out.log_probabilities, twice.log_probabilities)
    if name in ("instance_max", "instance_mean", "noisy_or", "log_sum_exp",
                "generalised_mean", "top_k"):  # fmt: skip
        found = out.log_probabilities.exp()
        torch.testing.assert_close(found, out.instance_probabilities)
    if out.attention is not None:
        assert out.attention.tolist() == [1]


@every
def test_an_empty_bag_is_refused(name):
    h, _ = batch([3, 4])
    with pytest.raises(ValueError, match="empty bag at place 1 of the batch"):
        pooling(name)(h, torch.tensor([0, 3, 3, 7]))


@every
@classes
@sizes
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("scale", [1, 1e4])
def test_gradients_are_finite(name, num_classes, sizes, autocast, scale):
    pool = pooling(name, num_classes)
    h, offsets = batch(sizes)
    h = (h * scale).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = pool(h, offsets)
    assert out.log_probabilities.dtype == torch.float32
    sum(
        out.loss(torch.full((len(sizes),), c)).sum() for c in range(num_classes)
    ).backward()
    assert torch.isfinite(out.log_probabilities).all()
    for value in (h, *pool.parameters()):
        assert value.grad is not None and torch.isfinite(value.grad).all()
    assert sum(p.grad.abs().sum() for p in pool.parameters()) > 0


@every
@classes
def test_autocast_agrees_with_float32(name, num_classes):
    pool = pooling(name, num_classes)
    h, offsets = batch([3, 1, 7])
    with torch.autocast("cpu", torch.bfloat16):
        half = pool(h, offsets).log_probabilities
    full = pool(h, offsets).log_probabilities
    torch.testing.assert_close(half, full, rtol=0.05, atol=0.05)


@every
@classes
@sizes
def test_gradients_are_those_of_finite_differences(name, num_classes, sizes):
    """Gradients of the instances and of every weight."""
    pool = pooling(name, num_classes, torch.float64)
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


def naive(name, pool, bag):
    """The published formula on one bag, two classes, in plain steps: P and a."""

    def sigm(logit):
        return 1 / (1 + torch.exp(-logit))

    w, b = pool.classifier.weight[0], pool.classifier.bias[0]
    if name == "instance_max":
        return max(sigm(w @ h + b) for h in bag), None
    if name == "instance_mean":
        return sum(sigm(w @ h + b) for h in bag) / len(bag), None
    if name == "embedding_max":
        return sigm(w @ bag.max(0).values + b), None
    if name == "embedding_mean":
        return sigm(w @ (sum(bag) / len(bag)) + b), None
    scores = []
    for h in bag:
        hidden = torch.tanh(pool.tanh.weight @ h + pool.tanh.bias)
        if name == "gated_attention":
            hidden = hidden * sigm(pool.gate.weight @ h + pool.gate.bias)
        scores.append(torch.exp(pool.score.weight[0] @ hidden))
    a = torch.stack(scores) / sum(scores)
    return sigm(w @ sum(ak * h for ak, h in zip(a, bag, strict=True)) + b), a


@pytest.mark.parametrize(
    "name",
    [
        "instance_max",
        "instance_mean",
        "embedding_max",
        "embedding_mean",
        "attention",
        "gated_attention",
    ],
)
@sizes
def test_equals_the_published_formula(name, sizes):
    pool = pooling(name, dtype=torch.float64)
    h, offsets = batch(sizes, torch.float64)
    out = pool(h, offsets)
    for i, bag in enumerate(bags(h, offsets)):
        p, a = naive(name, pool, bag)
        log = out.log_probabilities[i]
        torch.testing.assert_close(log, torch.stack([1 - p, p]).log())
        if a is not None:
            torch.testing.assert_close(out.attention[offsets[i] : offsets[i + 1]], a)


def test_instance_mean_pools_probabilities_not_logits():
    pool = pooling("instance_mean", dtype=torch.float64, dim=1)
    with torch.no_grad():
        pool.classifier.weight[:] = 1
        pool.classifier.bias[:] = 0
    out = alone(pool, torch.tensor([[40.0], [-2.0]], dtype=torch.float64))
    wanted = (1 + 1 / (1 + torch.tensor(2.0).double().exp())) / 2
    torch.testing.assert_close(out.log_probabilities.exp()[0, 1], wanted)


@pytest.mark.parametrize("name", ["instance_max", "instance_mean"])
def test_a_bag_that_is_badly_wrong_still_has_a_gradient(name):
    pool = pooling(name, dim=1)
    h = torch.full((4, 1), 60.0)
    with torch.no_grad():
        pool.classifier.weight[:] = 1
        pool.classifier.bias[:] = 0
    out = alone(pool, h)
    loss = -out.log_probabilities[0, 0]
    assert loss.item() == pytest.approx(60)
    loss.backward()
    assert pool.classifier.bias.grad.item() == pytest.approx(1)


@pytest.mark.parametrize("name", ["attention", "gated_attention"])
def test_hidden_width_is_checked(name):
    with pytest.raises(ValueError, match=rf"{name}\.hidden"):
        components.check(POOLINGS, components.Part(name=name, hidden=0))
