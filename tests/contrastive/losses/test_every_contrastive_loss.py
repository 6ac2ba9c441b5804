"""What every contrastive loss of relations owes, whoever adds it."""

import pytest
import torch
from fixtures.losses import LOSSES, batch, loss_of
from fixtures.parts import examples, held

from mshisto_ray import components

REMEMBER = components.declarations(LOSSES, "REMEMBERS")
every = pytest.mark.parametrize(
    "part", [e for e in examples(LOSSES) if e.values[0][0] not in REMEMBER]
)


@every
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_published_formula_in_loops(part, seed):
    z, positive, negative = batch(seed=seed)
    name, keys = part
    wanted = held(LOSSES, name, "oracle", None)(z, positive, negative, **keys)
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


@every
def test_what_it_monitors_is_told_in_numbers(part):
    z, positive, negative = (each.numpy() for each in batch())
    tell = getattr(loss_of(part), "monitors", lambda *_: {})
    assert all(type(v) is float for v in tell(z, positive, negative).values())
