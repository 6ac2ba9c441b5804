import torch
from fixtures.poolings import alone, assert_a_wrong_bag_has_a_gradient, pooling, sigm


def oracle(pool, bag):
    w, b = pool.classifier.weight[0], pool.classifier.bias[0]
    return sum(sigm(w @ h + b) for h in bag) / len(bag), None


def test_instance_mean_pools_probabilities_not_logits():
    pool = pooling("instance_mean", dtype=torch.float64, dim=1)
    with torch.no_grad():
        pool.classifier.weight[:] = 1
        pool.classifier.bias[:] = 0
    out = alone(pool, torch.tensor([[40.0], [-2.0]], dtype=torch.float64))
    wanted = (1 + 1 / (1 + torch.tensor(2.0).double().exp())) / 2
    torch.testing.assert_close(out.log_probabilities.exp()[0, 1], wanted)


def test_a_bag_that_is_badly_wrong_still_has_a_gradient():
    assert_a_wrong_bag_has_a_gradient("instance_mean")
