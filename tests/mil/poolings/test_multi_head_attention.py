import torch
from fixtures.poolings import batch, pooling, sigm

EXAMPLES = [{"heads": 3, "hidden": 4}]


def oracle(pool, bag):
    found = []
    for w in pool.score.weight:
        scores = []
        for h in bag:
            hidden = torch.tanh(pool.tanh.weight @ h + pool.tanh.bias)
            hidden = hidden * sigm(pool.gate.weight @ h + pool.gate.bias)
            scores.append(torch.exp(w @ hidden))
        found.append(torch.stack(scores) / sum(scores))
    z = torch.cat([sum(ak * h for ak, h in zip(a, bag, strict=True)) for a in found])
    p = sigm(pool.classifier.weight[0] @ z + pool.classifier.bias[0])
    return p, sum(found) / len(found)


def test_heads_that_are_alike_are_gated_attention():
    many = pooling("multi_head_attention", dtype=torch.float64, heads=2, hidden=4)
    one = pooling("gated_attention", dtype=torch.float64, hidden=4)
    with torch.no_grad():
        for name in ("tanh", "gate"):
            getattr(one, name).load_state_dict(getattr(many, name).state_dict())
        many.score.weight[1] = many.score.weight[0]
        one.score.weight[0] = many.score.weight[0]
        halves = many.classifier.weight.unflatten(1, (2, -1))
        one.classifier.weight.copy_(halves.sum(1))
        one.classifier.bias.copy_(many.classifier.bias)
    h, offsets = batch([3, 1, 90], torch.float64)
    found, expected = many(h, offsets), one(h, offsets)
    torch.testing.assert_close(found.log_probabilities, expected.log_probabilities)
    torch.testing.assert_close(found.attention, expected.attention)
