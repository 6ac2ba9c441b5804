import numpy as np
import pytest
import torch
from torch.nn import functional

from mshisto_ray.tile_classification.head.loss import FocalLoss, balanced_weights


def drawn():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 4, generator=generator) * 3
    return logits.requires_grad_(), torch.arange(50) % 4


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2, 3, 4])])
def test_gamma_0_is_cross_entropy_number_for_number(weights):
    logits, target = drawn()
    loss = FocalLoss(0, weights)(logits, target)
    assert torch.equal(loss, functional.cross_entropy(logits, target, weights))


@pytest.mark.parametrize("gamma", [0.5, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_formula_in_a_loop(gamma, weighted):
    logits, target = drawn()
    weights = torch.tensor([1.0, 2, 3, 4]) if weighted else None
    total = norm = torch.zeros(())
    for row, code in zip(logits, target, strict=True):
        p = torch.exp(row[code]) / torch.exp(row).sum()
        weight = weights[code] if weights is not None else 1.0
        total = total - weight * (1 - p) ** gamma * torch.log(p)
        norm = norm + weight
    found = FocalLoss(gamma, weights)(logits, target)
    torch.testing.assert_close(found, total / norm, rtol=1e-5, atol=1e-6)


def test_a_sure_tile_has_a_finite_slope():
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    FocalLoss(0.5)(logits, torch.tensor([0])).backward()
    assert torch.isfinite(logits.grad).all()


def test_balanced_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    target = torch.tensor([0] * 5 + [1] * 2 + [2])
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=target.numpy())
    torch.testing.assert_close(
        balanced_weights(target, 3), torch.tensor(wanted, dtype=torch.float32)
    )
