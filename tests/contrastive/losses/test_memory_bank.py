"""Instance discrimination against the formulas of Wu et al. 2018 in loops."""

import math

import numpy as np
import pytest
import torch
from fixtures.losses import loss_of, unit

from mshisto_ray.training.draws import uniforms

EXAMPLES = [{}, {"negatives": None}, {"negatives": 7, "temperature": 0.5}]
TILES, WIDTH, SEED = 11, 5, 3


def made(dtype=torch.float64, **keys):
    loss = loss_of(("memory_bank", keys))
    loss.begin(TILES, WIDTH, SEED)
    return loss.to(dtype)


def batch(num=4, seed=0, dtype=torch.float64):
    """Projections, relations that say nothing, tiles: one twice, the last unread."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(num, WIDTH, generator=generator, dtype=dtype)
    none = torch.zeros(num, num, dtype=torch.bool)
    return z, none, none, torch.tensor([6, 2, 6, *[9] * (num - 4), -1])


def noise_tiles(step, num):
    return [int(u * TILES) for u in uniforms(SEED, "memory", step, num, 1)[:, 0]]


def oracle(loss, z, tiles, normaliser, step=0):
    t, n, m = loss.temperature, TILES, loss.negatives
    costs = []
    for row, i in zip(z, tiles.tolist(), strict=True):
        if i < 0:
            continue
        e = [math.exp(float(unit(row) @ v) / t) for v in loss.memory]
        if m is None:
            costs.append(-math.log(e[i] / sum(e)))
            continue
        cost = -math.log(e[i] / normaliser / (e[i] / normaliser + m / n))
        for k in noise_tiles(step, m):
            p = e[k] / normaliser
            cost -= math.log(1 - p / (p + m / n))
        costs.append(cost)
    return sum(costs) / len(costs)


def first_normaliser(loss, z, tiles):
    """n times the mean of exp(score) over the batch and the noise."""
    drawn = noise_tiles(0, loss.negatives)
    e = [
        math.exp(float(unit(row) @ loss.memory[k]) / loss.temperature)
        for row, i in zip(z, tiles.tolist(), strict=True)
        for k in drawn
        if i >= 0
    ]
    return TILES * sum(e) / len(e)


@pytest.mark.parametrize("keys", EXAMPLES)
def test_equals_the_published_formula_in_loops(keys):
    loss = made(**keys)
    normaliser = None
    for step in range(3):
        given = batch(seed=step)
        if step == 0 and loss.negatives:
            normaliser = first_normaliser(loss, given[0], given[3])
        wanted = oracle(loss, given[0], given[3], normaliser, step)
        assert loss(*given).item() == pytest.approx(wanted)
        loss.remember(*given)


@pytest.mark.parametrize("keys", EXAMPLES)
def test_gradient_is_that_of_finite_differences(keys):
    loss = made(**keys)
    loss.remember(*batch(seed=5))
    z, *others = batch()
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: loss(v, *others), (z,))


def test_what_is_remembered_moves_by_the_momentum():
    loss = made(momentum=0.25)
    before = loss.memory.clone()
    z, *others = batch()
    loss.remember(z, *others)
    moved = (loss.memory != before).any(1)
    assert moved.nonzero().flatten().tolist() == [2, 6]
    for tile, row in ((6, 0), (2, 1)):  # tile 6 is in rows 0 and 2: the first
        wanted = unit(0.25 * before[tile] + 0.75 * unit(z[row]))
        torch.testing.assert_close(loss.memory[tile], wanted)
    assert loss.steps == 1


def test_the_normaliser_is_that_of_the_first_step():
    loss = made(negatives=6)
    first = batch()
    wanted = first_normaliser(loss, first[0], first[3])
    loss.remember(*first)
    loss.remember(*batch(seed=9))
    assert loss.log_normaliser.item() == pytest.approx(math.log(wanted))


def test_noise_of_all_tiles_draws_each_as_often_and_no_step_like_another():
    counts = np.bincount(noise_tiles(0, 50000), minlength=TILES)
    assert counts.std() / np.sqrt(counts.mean()) < 2
    assert noise_tiles(0, 50) != noise_tiles(1, 50)


def test_a_state_restores_it_whole():
    loss, other = made(negatives=6), made(negatives=6)
    loss.remember(*batch())
    other.load_state_dict(loss.state_dict())
    given = batch(seed=4)
    assert torch.equal(other(*given), loss(*given))


@pytest.mark.parametrize("negatives", [None, 6])
@pytest.mark.parametrize(
    "values",
    [torch.zeros(4, WIDTH), torch.ones(4, WIDTH) * 1e4, torch.ones(4, WIDTH) * 1e-8],
    ids=["zero", "long", "short"],
)
def test_loss_and_gradient_are_finite(negatives, values):
    loss = made(torch.float32, negatives=negatives)
    _, *others = batch()
    z = values.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(z, *others)
    value.backward()
    assert value.dtype == torch.float32 and torch.isfinite(value)
    assert z.grad is not None and torch.isfinite(z.grad).all()
    loss.remember(z.detach(), *others)
    assert torch.isfinite(loss.memory).all()


def test_of_images_that_cannot_be_read_nothing_is_learned():
    loss = made(negatives=6)
    before = loss.memory.clone()
    z, none, _, tiles = batch()
    z.requires_grad_()
    given = z, none, none, torch.full_like(tiles, -1)
    value = loss(*given)
    value.backward()
    loss.remember(*given)
    assert value.item() == 0 and not z.grad.any()
    assert torch.equal(loss.memory, before) and loss.log_normaliser.isnan()


def test_descent_tells_every_tile_from_the_others():
    """Free descriptors of the tiles come to lie where their memories do."""
    loss = made(negatives=None)
    z = torch.randn(TILES, WIDTH, dtype=torch.float64, requires_grad=True)
    none = torch.zeros(TILES, TILES, dtype=torch.bool)
    given = none, none, torch.arange(TILES)
    optimiser = torch.optim.Adam([z], lr=0.05)
    before = loss(z, *given).item()
    for _ in range(60):
        optimiser.zero_grad()
        loss(z, *given).backward()
        optimiser.step()
        loss.remember(z.detach(), *given)
    assert loss(z, *given).item() < 0.2 * before


def test_values_are_checked():
    with pytest.raises(ValueError, match=r"memory_bank\.momentum"):
        loss_of(("memory_bank", {"momentum": 1.0}))
