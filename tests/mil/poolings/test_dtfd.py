"""DTFD-MIL against plain loops."""

import pytest
import torch
from fixtures.poolings import bags, batch, pooling
from torch.nn import functional

from mshisto_ray.mil.fit.stacked import can_stack

pytestmark = pytest.mark.usefixtures("every_form")
EXAMPLES = [{"hidden": 4, "groups": 3}]
DIM = 5


def attend(tier, rows):
    scores = []
    for h in rows:
        hidden = torch.tanh(tier.tanh(h)) * torch.sigmoid(tier.gate(h))
        scores.append(tier.score(hidden))
    a = torch.softmax(torch.cat(scores), 0)
    return a, sum(ak * h for ak, h in zip(a, rows, strict=True))


def log_p(logits):
    if len(logits) > 1:
        return functional.log_softmax(logits, 0)
    return torch.cat([functional.logsigmoid(-logits), functional.logsigmoid(logits)])


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("sizes", [[3, 1, 9, 20], [80, 2, 130]], ids=str)
def test_both_tiers_equal_a_loop(num_classes, sizes):
    pool = pooling("dtfd", num_classes, torch.float64, DIM, hidden=4, groups=4)
    h, offsets = batch(sizes, torch.float64, DIM)
    targets = torch.arange(len(sizes)) % num_classes
    out = pool(h, offsets)
    loss, attention = out.loss(targets), bags(out.attention, offsets)
    for i, bag in enumerate(bags(h, offsets)):
        ranked = sorted(range(len(bag)), key=lambda k: -float(bag[k] @ pool.direction))
        groups = [ranked[g::4] for g in range(min(4, len(bag)))]
        tiers = [attend(pool.first, bag[group]) for group in groups]
        over, z = attend(pool.second, torch.stack([z for _, z in tiers]))
        log = log_p(pool.second.classifier(z))
        torch.testing.assert_close(out.log_probabilities[i], log)
        for g, group in enumerate(groups):
            torch.testing.assert_close(attention[i][group], over[g] * tiers[g][0])
        first = [-log_p(pool.first.classifier(z))[targets[i]] for _, z in tiers]
        expected = 0.5 * -log[targets[i]] + 0.5 * sum(first) / len(first)
        torch.testing.assert_close(loss[i], expected)


def test_it_is_not_stacked():
    assert not can_stack(pooling("dtfd"))
    assert can_stack(pooling("gated_attention"))
