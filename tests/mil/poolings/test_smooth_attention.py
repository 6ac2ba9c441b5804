"""Smooth attention against loops over neighbours."""

import itertools

import pytest
import torch
from fixtures.poolings import bags, batch, places_of, pooling, sigm
from torch.nn import functional

from mshisto_ray import components
from mshisto_ray.mil.model import POOLINGS
from mshisto_ray.mil.ragged import segments
from mshisto_ray.mil.ragged.neighbours import TileNeighbours

EXAMPLES = [{}, {"gated": True, "alpha": 0.8, "steps": 3}]


def are_neighbours(one, other):
    return one != other and max(abs(a - b) for a, b in zip(one, other, strict=True)) < 2


def oracle(pool, bag):
    places = [tuple(place) for place in places_of(bag).tolist()]
    around = [
        [k for k, other in enumerate(places) if are_neighbours(own, other)]
        for own in places
    ]
    scores = []
    for h in bag:
        hidden = torch.tanh(pool.tanh.weight @ h + pool.tanh.bias)
        if pool.gate is not None:
            hidden = hidden * sigm(pool.gate.weight @ h + pool.gate.bias)
        scores.append(pool.score.weight[0] @ hidden + pool.score.bias[0])
    smooth = scores
    for _ in range(pool.steps):
        means = [
            sum(smooth[k] for k in near) / len(near) if near else own
            for own, near in zip(smooth, around, strict=True)
        ]
        pairs = zip(means, scores, strict=True)
        smooth = [pool.alpha * mean + (1 - pool.alpha) * f for mean, f in pairs]
    a = torch.softmax(torch.stack(smooth), 0)
    z = sum(ak * h for ak, h in zip(a, bag, strict=True))
    return sigm(pool.classifier.weight[0] @ z + pool.classifier.bias[0]), a


def test_the_fixtures_bags_have_neighbours_and_lonely_tiles():
    places = [tuple(place) for place in places_of(batch([90])[0]).tolist()]
    near = [sum(are_neighbours(a, b) for b in places) for a in places]
    assert min(near) == 0 < 3 < max(near)


def test_means_are_of_the_same_bag_alone():
    """A square of nine tiles and a tile apart, twice; only values of a bag count."""
    square = [(r, c) for r in range(3) for c in range(3)] + [(5, 0)]
    places = torch.tensor(square + square)
    offsets = torch.tensor([0, 10, 20])
    values = torch.randn(20, 2, dtype=torch.float64)
    found = TileNeighbours(places, offsets, values.device).mean(values)
    for start in (0, 10):
        own = values[start : start + 10]
        corner, middle, lonely = found[start], found[start + 4], found[start + 9]
        torch.testing.assert_close(corner, own[[1, 3, 4]].mean(0))
        torch.testing.assert_close(middle, own[[0, 1, 2, 3, 5, 6, 7, 8]].mean(0))
        torch.testing.assert_close(lonely, own[9])


def test_rows_of_a_grid_do_not_wrap_around():
    places = torch.tensor([[0, 7], [1, 0], [0, 0]])
    values = torch.tensor([[1.0], [2.0], [4.0]])
    found = TileNeighbours(places, torch.tensor([0, 3]), values.device).mean(values)
    assert found.flatten().tolist() == [1, 4, 2]


def test_alpha_0_is_plain_attention_and_more_is_smoother():
    torch.manual_seed(0)
    h, offsets = batch([60], torch.float64)
    grid = torch.tensor(list(itertools.product(range(6), range(10))))
    plain = pooling("attention", dtype=torch.float64)
    found = {}
    for alpha in (0.0, 0.5, 0.9):
        part = components.check(
            POOLINGS, components.Part(name="smooth_attention", alpha=alpha)
        )
        pool = components.build(POOLINGS, part, h.shape[1], 2).double()
        pool.load_state_dict(plain.state_dict())
        found[alpha] = pool(h, offsets, grid)
    torch.testing.assert_close(found[0.0].attention, plain(h, offsets).attention)
    rough = []
    for out in found.values():
        log = out.attention.log().view(6, 10)
        rough.append(sum(log.diff(dim=d).square().sum().item() for d in (0, 1)))
    assert rough[0] > rough[1] > rough[2]


def test_many_steps_minimise_the_energy_of_the_docstring():
    alpha, grid = 0.6, torch.tensor(list(itertools.product(range(4), range(5))))
    f = torch.randn(20, 1, dtype=torch.float64)
    near = TileNeighbours(grid, torch.tensor([0, 20]), f.device)
    g = f
    for _ in range(200):
        g = alpha * near.mean(g) + (1 - alpha) * f
    places = [tuple(place) for place in grid.tolist()]
    a = torch.tensor([[float(are_neighbours(x, y)) for y in places] for x in places])
    g = g.flatten().requires_grad_()
    pairs = (a.double() * (g[:, None] - g) ** 2).sum() / 2
    energy = alpha * pairs + (1 - alpha) * (a.sum(1) * (g - f.flatten()) ** 2).sum()
    (gradient,) = torch.autograd.grad(energy, g)
    torch.testing.assert_close(gradient, torch.zeros(20, dtype=torch.float64))


def test_tiles_without_places_are_refused():
    part = components.check(POOLINGS, components.Part(name="smooth_attention"))
    with pytest.raises(ValueError, match="needs the places of tiles"):
        components.build(POOLINGS, part, 6, 2)(*batch([3, 2]))


@pytest.mark.parametrize("sizes", [[3, 1, 9, 20], [80, 1, 130]], ids=str)
def test_padded_bags_equal_ragged_ones(sizes, monkeypatch):
    pool = pooling("smooth_attention", 3, torch.float64, alpha=0.7)
    h, offsets = batch(sizes, torch.float64)
    ragged = pool(h, offsets)
    monkeypatch.setattr(segments, "_PADS", {"cpu"})
    monkeypatch.setattr(segments, "_LONG", {"cpu": 2048})
    padded = pool(h, offsets)
    torch.testing.assert_close(padded.attention, ragged.attention)
    torch.testing.assert_close(padded.log_probabilities, ragged.log_probabilities)
    wanted = functional.log_softmax(padded.outputs, -1)
    torch.testing.assert_close(padded.log_probabilities, wanted)
    assert len(bags(padded.attention, offsets)) == len(sizes)
