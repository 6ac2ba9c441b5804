import pytest
import torch
from fixtures.poolings import bags, batch, pooling, sigm
from torch.nn import functional

from mshisto_ray import components
from mshisto_ray.mil.model import POOLINGS


def oracle(pool, bag):
    scores = []
    for h in bag:
        hidden = torch.tanh(pool.tanh.weight @ h + pool.tanh.bias)
        scores.append(torch.exp(pool.score.weight[0] @ hidden))
    a = torch.stack(scores) / sum(scores)
    z = sum(ak * h for ak, h in zip(a, bag, strict=True))
    return sigm(pool.classifier.weight[0] @ z + pool.classifier.bias[0]), a


@pytest.mark.usefixtures("every_form")
@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("sizes", [[3, 1, 9, 20], [80, 1, 130]], ids=str)
def test_attention_a_class_equals_a_loop_over_classes(num_classes, sizes):
    pool = pooling("attention", num_classes, torch.float64, per_class=True, hidden=4)
    h, offsets = batch(sizes, torch.float64)
    out = pool(h, offsets)
    found = bags(out.class_attention, offsets)
    for i, bag in enumerate(bags(h, offsets)):
        logits = []
        for c in range(num_classes):
            hidden = torch.tanh(bag @ pool.tanh.weight.T + pool.tanh.bias)
            a = torch.softmax(hidden @ pool.score.weight[c], 0)
            torch.testing.assert_close(found[i][:, c], a)
            z = sum(ak * hk for ak, hk in zip(a, bag, strict=True))
            logits.append(pool.classifier.weight[c] @ z + pool.classifier.bias[c])
        wanted = functional.log_softmax(torch.stack(logits), 0)
        torch.testing.assert_close(out.log_probabilities[i], wanted)


def test_hidden_width_is_checked():
    with pytest.raises(ValueError, match=r"attention\.hidden"):
        components.check(POOLINGS, components.Part(name="attention", hidden=0))
