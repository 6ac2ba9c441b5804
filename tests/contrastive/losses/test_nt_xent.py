import pytest
import torch
from fixtures.losses import loss_of, softmax_costs


def oracle(z, positive, negative, temperature=0.1):
    anchors = softmax_costs(z, positive, negative, temperature, False)
    costs = [cost for anchor in anchors for cost in anchor]
    return sum(costs) / len(costs)


def test_nt_xent_is_the_mean_over_anchors_for_one_positive_each():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(8, 4, generator=generator, dtype=torch.float64)
    pair = torch.arange(8) // 2
    positive = (pair[:, None] == pair) & ~torch.eye(8, dtype=torch.bool)
    negative = pair[:, None] != pair
    wanted = loss_of(("supervised_contrastive", {}))(z, positive, negative)
    torch.testing.assert_close(loss_of(("nt_xent", {}))(z, positive, negative), wanted)


def test_values_are_checked():
    with pytest.raises(ValueError, match=r"nt_xent\.temperature"):
        loss_of(("nt_xent", {"temperature": -0.1}))
