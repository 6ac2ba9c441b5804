"""DSMIL, CLAM, attention per class and the set transformer, against plain loops."""

import itertools

import pytest
import torch
from torch.nn import functional

from mshisto_ray import components
from mshisto_ray.config import InputError, validate
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.model import POOLINGS

pytestmark = pytest.mark.usefixtures("every_form")
DIM = 5
SIZES = [[3, 1, 9, 20], [80, 1, 130]]
sizes = pytest.mark.parametrize("sizes", SIZES, ids=str)
classes = pytest.mark.parametrize("num_classes", [2, 3])


def make(name, num_classes=2, **keys):
    torch.manual_seed(0)
    part = components.check(POOLINGS, components.Part(name=name, **keys))
    return components.build(POOLINGS, part, DIM, num_classes).double()


def batch(sizes):
    h = torch.randn(sum(sizes), DIM, dtype=torch.float64)
    return h, torch.tensor([0, *itertools.accumulate(sizes)])


def each(h, offsets):
    return [h[a:b] for a, b in itertools.pairwise(offsets.tolist())]


def log_p(logits):
    if len(logits) > 1:
        return functional.log_softmax(logits, 0)
    return torch.cat([functional.logsigmoid(-logits), functional.logsigmoid(logits)])


@pytest.mark.parametrize("name", ["attention", "gated_attention"])
@classes
@sizes
def test_attention_a_class_equals_a_loop_over_classes(name, num_classes, sizes):
    pool = make(name, num_classes, per_class=True, hidden=4)
    h, offsets = batch(sizes)
    out = pool(h, offsets)
    found = each(out.class_attention, offsets)
    for i, bag in enumerate(each(h, offsets)):
        logits = []
        for c in range(num_classes):
            hidden = torch.tanh(bag @ pool.tanh.weight.T + pool.tanh.bias)
            if name == "gated_attention":
                gate = bag @ pool.gate.weight.T + pool.gate.bias
                hidden = hidden * torch.sigmoid(gate)
            a = torch.softmax(hidden @ pool.score.weight[c], 0)
            torch.testing.assert_close(found[i][:, c], a)
            z = sum(ak * hk for ak, hk in zip(a, bag, strict=True))
            logits.append(pool.classifier.weight[c] @ z + pool.classifier.bias[c])
        torch.testing.assert_close(out.log_probabilities[i], log_p(torch.stack(logits)))


@classes
@sizes
@pytest.mark.parametrize("project", [False, True])
def test_dsmil_equals_a_loop(num_classes, sizes, project):
    pool = make("dsmil", num_classes, hidden=4, project=project)
    h, offsets = batch(sizes)
    targets = torch.arange(len(sizes)) % num_classes
    out = pool(h, offsets)
    for i, bag in enumerate(each(h, offsets)):
        x = pool.instance(bag)
        query, value = pool.query(bag), pool.value(bag)
        z = []
        for c in range(x.shape[1]):
            critical = max(range(len(bag)), key=lambda k: x[k, c])
            a = torch.softmax(query @ query[critical] / 2, 0)  # sqrt(4)
            z.append(sum(ak * vk for ak, vk in zip(a, value, strict=True)))
        bag_log = log_p(pool.classifier(torch.cat(z)))
        torch.testing.assert_close(out.log_probabilities[i], bag_log)
        stream = log_p(torch.stack([max(column) for column in x.T]))
        t = targets[i]
        wanted = -0.5 * bag_log[t] - 0.5 * stream[t]
        torch.testing.assert_close(out.loss(targets)[i], wanted)


@classes
@sizes
@pytest.mark.parametrize("subtyping", [False, True])
@pytest.mark.parametrize("per_class", [False, True])
def test_clam_equals_a_loop(num_classes, sizes, subtyping, per_class):
    keys = {"num": 4, "bag_weight": 0.6, "hidden": 4}
    pool = make("clam", num_classes, subtyping=subtyping, per_class=per_class, **keys)
    h, offsets = batch(sizes)
    targets = torch.arange(len(sizes)) % num_classes
    out = pool(h, offsets)
    loss = out.loss(targets)
    attention = out.class_attention if per_class else out.attention[:, None]
    for i, (bag, a) in enumerate(
        zip(each(h, offsets), each(attention, offsets), strict=True)
    ):
        logits = pool.clusters(bag).reshape(len(bag), num_classes, 2)
        total = 0
        for c in range(num_classes):
            branch = a[:, c] if per_class else a[:, 0]
            ranked = sorted(range(len(bag)), key=lambda k: -branch[k])
            top = ranked[: min(4, (len(bag) + 1) // 2)]
            bottom = ranked[len(bag) - min(4, len(bag) // 2) :]
            wanted = dict.fromkeys(bottom, 0) | dict.fromkeys(top, 1)
            if c != targets[i]:
                wanted = dict.fromkeys(top, 0) if subtyping else {}
            losses = [
                functional.cross_entropy(logits[k, c], torch.tensor(w))
                for k, w in wanted.items()
            ]
            total += sum(losses) / max(1, len(losses))
        total = total / num_classes if subtyping else total
        bag_loss = -out.log_probabilities[i, targets[i]]
        torch.testing.assert_close(loss[i], 0.6 * bag_loss + 0.4 * total)


def test_clam_gives_equally_attended_instances_one_label_each():
    pool = make("clam", num=4)
    torch.nn.init.zeros_(pool.pooling.score.weight)
    h, offsets = batch([5])
    out = pool(h, offsets)
    losses = functional.log_softmax(pool.clusters(h).reshape(5, 2, 2), -1).neg()
    # Of five instances three are in and two out, in their order.
    wanted = losses[:3, 0, 1].sum() + losses[3:, 0, 0].sum()
    found = out.auxiliary.loss(torch.tensor([0]))[0]
    torch.testing.assert_close(found, wanted / 5)


def test_clam_takes_bags_smaller_than_its_clusters():
    h, offsets = batch([1, 2, 3])
    loss = make("clam", num=8)(h, offsets).loss(torch.tensor([0, 1, 0]))
    assert torch.isfinite(loss).all()


def test_transformer_ways_of_reducing_agree():
    """Short bags all at once equal the same bags one by one."""
    pool = make("transformer", width=8, heads=2, points=3)
    h, offsets = batch([3, 1, 9, 20])
    out = pool(h, offsets)
    alone = [pool(bag, torch.tensor([0, len(bag)])) for bag in each(h, offsets)]
    for key in ("log_probabilities", "attention"):
        parts = torch.cat([getattr(a, key) for a in alone])
        torch.testing.assert_close(getattr(out, key), parts)


def attend_by_loop(attend, query, context):
    """Attend from ``query`` to ``context``, head by head: values [Q, W], weights."""
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
    """Points attend to the bag, the bag to the points, then the learned query pools."""
    pool = make("transformer", width=4, heads=2, points=3, layers=2)
    h, offsets = batch(sizes)
    out = pool(h, offsets)
    for i, bag in enumerate(each(h, offsets)):
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
        attention = each(out.attention, offsets)[i]
        torch.testing.assert_close(attention, weights[0].mean(0))


def test_transformer_heads_must_divide_its_width():
    with pytest.raises(ValueError, match=r"transformer\.width=10 is not a multiple"):
        make("transformer", width=10)
    # Before any bag is read, and with the key that is wrong.
    raw = {"pooling": {"name": "transformer", "heads": 3}}
    with pytest.raises(InputError, match=r"pooling: transformer\.width=128 is not"):
        validate(TrainConfig, raw)
