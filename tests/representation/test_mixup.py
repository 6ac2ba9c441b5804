import numpy as np
import pytest
import torch
from torch.nn import functional

from mshisto_ray.representation.mixup import Mix, draw_mix, mix_bags


def test_values_and_loss_are_those_of_soft_labels():
    h, mix = torch.randn(6, 3), Mix(0.3, torch.tensor([1, 2, 0, 3, 5, 4]))
    target = torch.tensor([0, 1, 2, 0, 1, 2])
    for i, j in enumerate(mix.partner.tolist()):
        torch.testing.assert_close(mix.values(h)[i], 0.3 * h[i] + 0.7 * h[j])
    logits = mix.values(h) @ torch.randn(3, 3)
    hot = functional.one_hot(target, 3).float()
    soft = 0.3 * hot + 0.7 * hot[mix.partner]
    found = mix.loss(lambda t: functional.cross_entropy(logits, t), target)
    torch.testing.assert_close(found, functional.cross_entropy(logits, soft))


def test_shares_are_of_the_beta_distribution():
    rng = np.random.default_rng(0)
    drawn = [draw_mix(0.2, 4, rng) for _ in range(4000)]
    shares = np.array([mix.share for mix in drawn])
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * (2 * 0.2 + 1)), abs=0.01)
    assert all(sorted(mix.partner.tolist()) == [0, 1, 2, 3] for mix in drawn[:20])


def test_instances_are_mixed_with_those_of_the_partner_bag():
    sizes = [3, 1, 4]
    offsets = torch.tensor([0, 3, 4, 8])
    h = torch.arange(8.0)[:, None] * torch.tensor([[1.0, 10.0]])
    mix = Mix(0.75, torch.tensor([1, 2, 0]))
    found = mix_bags(h, offsets, mix, torch.Generator().manual_seed(0))
    other = (found - 0.75 * h) / 0.25
    bag = torch.arange(3).repeat_interleave(torch.tensor(sizes))
    for k, row in enumerate(other):
        partner = int(mix.partner[bag[k]])
        own = h[offsets[partner] : offsets[partner + 1]]
        assert any(torch.allclose(row, instance) for instance in own)
    again = mix_bags(h, offsets, mix, torch.Generator().manual_seed(0))
    assert torch.equal(found, again)
