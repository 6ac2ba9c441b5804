import numpy as np
import pytest
import torch
from torch.nn import functional

from mshisto_ray.representation.mixup import Mix, draw_mix


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
