"""Requirements of every contrastive loss, and the published formulas."""

import itertools
import math

import pytest
import torch

from mshisto_ray import components

LOSSES = "mshisto_ray.contrastive.losses"
VARIANTS = [
    {"name": "margin"},
    {"name": "margin", "squared": False, "normalize": False, "margin": 3.0},
    {"name": "margin", "squared": False, "balanced": False},
    {"name": "supervised_contrastive"},
    {"name": "supervised_contrastive", "denominator": "negatives"},
    {"name": "supervised_contrastive", "reduction": "sum", "temperature": 0.5},
    {"name": "nt_xent"},
]
every = pytest.mark.parametrize(
    "part", VARIANTS, ids=lambda part: "-".join(map(str, part.values()))
)


def loss_of(part):
    return components.build(LOSSES, components.check(LOSSES, components.Part(**part)))


def batch(num=9, dim=5, seed=0, dtype=torch.float64):
    """Projections and relations in which tile 7 is alone and 8 has no positive."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(num, dim, generator=generator, dtype=dtype)
    kind = torch.randint(0, 3, (num, num), generator=generator).triu(1)
    kind[:, 7], kind[7] = 0, 0
    kind[:, 8] = (kind[:, 8] > 0) * 2
    kind = kind + kind.T
    return z, kind == 1, kind == 2


def test_every_loss_is_among_the_variants():
    assert {part["name"] for part in VARIANTS} == set(components.available(LOSSES))


def unit(row):
    return row / math.sqrt(sum(float(v) ** 2 for v in row))


def naive_margin(part, z, positive, negative):
    margin, power = part.get("margin", 1.0), 2 if part.get("squared", True) else 1
    if part.get("normalize", True):
        z = [unit(row) for row in z]
    near, far = [], []
    for i, j in itertools.combinations(range(len(z)), 2):
        d = math.sqrt(sum(float(a - b) ** 2 for a, b in zip(z[i], z[j], strict=True)))
        if positive[i, j]:
            near.append(d**power)
        if negative[i, j]:
            far.append(max(0.0, margin - d) ** power)
    if part.get("balanced", True):
        return (sum(near) / len(near) + sum(far) / len(far)) / 2
    return sum(near + far) / len(near + far)


def naive_softmax(part, z, positive, negative):
    t = part.get("temperature", 0.1)
    z = [unit(row) for row in z]
    num = len(z)
    e = [[math.exp(float(z[i] @ z[j]) / t) for j in range(num)] for i in range(num)]
    pairs, anchors = [], []
    for i in range(num):
        costs = []
        for j in range(num):
            if positive[i, j]:
                others = sum(e[i][k] for k in range(num) if negative[i, k])
                if (
                    part.get("denominator", "all") == "all"
                    and part["name"] != "nt_xent"
                ):
                    below = others + sum(e[i][k] for k in range(num) if positive[i, k])
                else:
                    below = others + e[i][j]
                costs.append(-math.log(e[i][j] / below))
        pairs += costs
        if costs:
            anchors.append(sum(costs) / len(costs))
    if part["name"] == "nt_xent":
        return sum(pairs) / len(pairs)
    total = sum(anchors)
    return total if part.get("reduction") == "sum" else total / len(anchors)


@every
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_published_formula_in_loops(part, seed):
    z, positive, negative = batch(seed=seed)
    naive = naive_margin if part["name"] == "margin" else naive_softmax
    wanted = naive(part, z, positive, negative)
    assert loss_of(part)(z, positive, negative).item() == pytest.approx(wanted)


@every
def test_order_of_the_batch_changes_nothing(part):
    z, positive, negative = batch()
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(3))
    again = loss_of(part)(
        z[order], positive[order][:, order], negative[order][:, order]
    )
    torch.testing.assert_close(again, loss_of(part)(z, positive, negative))


@every
def test_an_unrelated_tile_changes_nothing(part):
    z, positive, negative = batch()
    moved = z.clone()
    moved[7] = 100.0
    loss = loss_of(part)
    wanted = loss(z, positive, negative)
    torch.testing.assert_close(loss(moved, positive, negative), wanted)
    kept = [i for i in range(len(z)) if i != 7]
    fewer = loss(z[kept], positive[kept][:, kept], negative[kept][:, kept])
    torch.testing.assert_close(fewer, wanted)


@every
def test_gradient_is_that_of_finite_differences(part):
    z, positive, negative = batch()
    z.requires_grad_()
    loss = loss_of(part)
    assert torch.autograd.gradcheck(lambda v: loss(v, positive, negative), (z,))


@every
@pytest.mark.parametrize(
    "values",
    [
        torch.ones(9, 5),
        torch.zeros(9, 5),
        torch.randn(9, 5) * 1e4,
        torch.randn(9, 5) * 1e-8,
        -torch.eye(9)[:, :5],
    ],
    ids=["same", "zero", "long", "short", "partly zero"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_gradient_are_finite(part, values, dtype):
    _, positive, negative = batch()
    z = values.to(dtype, copy=True).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(part)(z, positive, negative)
    assert loss.dtype == torch.float32 and torch.isfinite(loss)
    loss.backward()
    assert z.grad is not None and torch.isfinite(z.grad).all()


@every
def test_autocast_changes_nothing(part):
    z, positive, negative = batch(dtype=torch.float32)
    wanted = loss_of(part)(z, positive, negative)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss_of(part)(z, positive, negative), wanted)


@every
def test_without_related_pairs_the_loss_and_its_gradient_are_zero(part):
    z, positive, _ = batch()
    none = torch.zeros_like(positive)
    z.requires_grad_()
    loss = loss_of(part)(z, none, none)
    loss.backward()
    assert loss.item() == 0 and not z.grad.any()


@every
def test_descent_pulls_positives_together_and_pushes_negatives_apart(part):
    z, positive, negative = batch(num=12, seed=5)
    z.requires_grad_()
    optimiser = torch.optim.Adam([z], lr=0.05)
    loss = loss_of(part)

    def gap():
        d = torch.cdist(z, z)
        return (d[negative].mean() - d[positive].mean()).item()

    before = gap()
    for _ in range(50):
        optimiser.zero_grad()
        loss(z, positive, negative).backward()
        optimiser.step()
    assert gap() > before + 0.1


def test_a_pair_at_distance_zero_costs_nothing_and_stays():
    z = torch.tensor([[1.0, 2.0], [1.0, 2.0]], requires_grad=True)
    positive = ~torch.eye(2, dtype=torch.bool)
    for squared in (True, False):
        loss = loss_of({"name": "margin", "squared": squared})
        value = loss(z, positive, torch.zeros_like(positive))
        value.backward()
        assert value.item() == 0 and not z.grad.any()


def test_small_distances_are_not_lost():
    z = torch.tensor([[1.0, 0.0], [1.0, 1e-4]], dtype=torch.float32)
    loss = loss_of({"name": "margin", "squared": False})
    positive = ~torch.eye(2, dtype=torch.bool)
    value = loss(z, positive, torch.zeros_like(positive))
    assert value.item() == pytest.approx(1e-4, rel=1e-3)


def test_nt_xent_is_the_mean_over_anchors_for_one_positive_each():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(8, 4, generator=generator, dtype=torch.float64)
    pair = torch.arange(8) // 2
    positive = (pair[:, None] == pair) & ~torch.eye(8, dtype=torch.bool)
    negative = pair[:, None] != pair
    wanted = loss_of({"name": "supervised_contrastive"})(z, positive, negative)
    torch.testing.assert_close(
        loss_of({"name": "nt_xent"})(z, positive, negative), wanted
    )


@pytest.mark.parametrize(
    "part, key",
    [
        ({"name": "margin", "margin": 0}, "margin"),
        ({"name": "nt_xent", "temperature": -0.1}, "temperature"),
        ({"name": "supervised_contrastive", "reduction": "median"}, "reduction"),
    ],
)
def test_values_are_checked(part, key):
    with pytest.raises(ValueError, match=rf"{part['name']}\.{key}"):
        components.check(LOSSES, components.Part(**part))
