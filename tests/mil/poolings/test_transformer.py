"""The set transformer against plain loops."""

import pytest
import torch
from fixtures.poolings import bags, batch, pooling
from torch.nn import functional

from mshisto_ray.config import InputError, validate
from mshisto_ray.mil.fit.config import TrainConfig

pytestmark = pytest.mark.usefixtures("every_form")
EXAMPLES = [{"width": 8, "heads": 2, "points": 3}]
# It does not stand steps that suit a linear classifier.
LEARNING_RATE = 0.005
DIM = 5
SIZES = [[3, 1, 9, 20], [80, 1, 130]]
sizes = pytest.mark.parametrize("sizes", SIZES, ids=str)


def make(num_classes=2, **keys):
    return pooling("transformer", num_classes, torch.float64, DIM, **keys)


def test_transformer_ways_of_reducing_agree():
    """Short bags all at once equal the same bags one by one."""
    pool = make(width=8, heads=2, points=3)
    h, offsets = batch([3, 1, 9, 20], torch.float64, DIM)
    out = pool(h, offsets)
    alone = [pool(bag, torch.tensor([0, len(bag)])) for bag in bags(h, offsets)]
    for key in ("log_probabilities", "attention"):
        parts = torch.cat([getattr(a, key) for a in alone])
        torch.testing.assert_close(getattr(out, key), parts)


def attend_by_loop(attend, query, context):
    """Each of ``query`` asks ``context``, head by head: values [Q, W], weights."""
    key, value = attend.key(context), attend.value(context)
    found, weights = [], []
    for q in attend.query(query):
        heads, own = [], []
        for s in torch.arange(len(q)).split(len(q) // attend.heads):
            a = torch.softmax(key[:, s] @ q[s] / len(s) ** 0.5, 0)
            heads.append(sum(ak * v for ak, v in zip(a, value[:, s], strict=True)))
            own.append(a)
        found.append(attend.out(torch.cat(heads)))
        weights.append(torch.stack(own))
    return torch.stack(found), torch.stack(weights)


@sizes
def test_transformer_equals_a_loop(sizes):
    """Points gather from the bag and give back, then the learned query pools."""
    pool = make(width=4, heads=2, points=3, layers=2)
    h, offsets = batch(sizes, torch.float64, DIM)
    out = pool(h, offsets)
    for i, bag in enumerate(bags(h, offsets)):
        bag = pool.enter(bag)
        for block in pool.blocks:
            normed = block.before(bag)
            points, _ = attend_by_loop(block.gather, block.points, normed)
            back, _ = attend_by_loop(block.scatter, normed, block.between(points))
            bag = bag + back
            bag = bag + block.mix(block.last(bag))
        (z,), weights = attend_by_loop(pool.pool, pool.seed, pool.norm(bag))
        logit = pool.classifier(z)
        wanted = functional.logsigmoid(torch.cat([-logit, logit]))
        torch.testing.assert_close(out.log_probabilities[i], wanted)
        attention = bags(out.attention, offsets)[i]
        torch.testing.assert_close(attention, weights[0].mean(0))


def test_transformer_heads_must_divide_its_width():
    with pytest.raises(ValueError, match=r"transformer\.width=10 is not a multiple"):
        make(width=10)
    # Before any bag is read, and with the key that is wrong.
    raw = {"pooling": {"name": "transformer", "heads": 3}}
    with pytest.raises(InputError, match=r"pooling: transformer\.width=128 is not"):
        validate(TrainConfig, raw)
