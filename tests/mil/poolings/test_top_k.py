import math

import pytest
import torch
from fixtures.poolings import alone, batch, identity, pooling

PARAMETERS = [{"k": 3}]


def p_of_logits(logits, k=10):
    top = sorted(logits, reverse=True)[:k]
    return 1 / (1 + math.exp(-sum(top) / len(top)))


def test_top_1_is_the_maximum_and_top_of_all_is_the_mean_logit():
    h = torch.randn(12, 1, dtype=torch.float64)
    offsets = torch.tensor([0, 5, 12])
    largest = identity("instance_max")(h, offsets).log_probabilities
    found = identity("top_k", k=1)(h, offsets).log_probabilities
    torch.testing.assert_close(found, largest)
    means = torch.stack([h[:5].mean(), h[5:].mean()])
    found = identity("top_k", k=100)(h, offsets).log_probabilities
    torch.testing.assert_close(found[:, 1], torch.nn.functional.logsigmoid(means))


@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_same_instance_twice_is_that_instance(num_classes):
    pool, (h, _) = pooling("top_k", num_classes), batch([1])
    one, two = alone(pool, h), alone(pool, h.repeat(2, 1))
    torch.testing.assert_close(one.log_probabilities, two.log_probabilities)
