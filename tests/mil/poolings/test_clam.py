"""CLAM against plain loops."""

import pytest
import torch
from fixtures.poolings import bags, batch, pooling
from torch.nn import functional

pytestmark = pytest.mark.usefixtures("every_form")
EXAMPLES = [{"hidden": 8, "num": 2, "subtyping": True, "per_class": True}]
DIM = 5
SIZES = [[3, 1, 9, 20], [80, 1, 130]]
sizes = pytest.mark.parametrize("sizes", SIZES, ids=str)
classes = pytest.mark.parametrize("num_classes", [2, 3])


def make(num_classes=2, **keys):
    return pooling("clam", num_classes, torch.float64, DIM, **keys)


@classes
@sizes
@pytest.mark.parametrize("subtyping", [False, True])
@pytest.mark.parametrize("per_class", [False, True])
def test_clam_equals_a_loop(num_classes, sizes, subtyping, per_class):
    keys = {"num": 4, "bag_weight": 0.6, "hidden": 4}
    pool = make(num_classes, subtyping=subtyping, per_class=per_class, **keys)
    h, offsets = batch(sizes, torch.float64, DIM)
    targets = torch.arange(len(sizes)) % num_classes
    out = pool(h, offsets)
    loss = out.loss(targets)
    attention = out.class_attention if per_class else out.attention[:, None]
    for i, (bag, a) in enumerate(
        zip(bags(h, offsets), bags(attention, offsets), strict=True)
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


def test_clam_gives_equally_attended_instances_one_label_bags():
    pool = make(num=4)
    torch.nn.init.zeros_(pool.pooling.score.weight)
    h, offsets = batch([5], torch.float64, DIM)
    out = pool(h, offsets)
    losses = functional.log_softmax(pool.clusters(h).reshape(5, 2, 2), -1).neg()
    # Of five instances three are in and two out, in their order.
    wanted = losses[:3, 0, 1].sum() + losses[3:, 0, 0].sum()
    found = out.auxiliary.loss(torch.tensor([0]))[0]
    torch.testing.assert_close(found, wanted / 5)


def test_clam_takes_bags_smaller_than_its_clusters():
    h, offsets = batch([1, 2, 3], torch.float64, DIM)
    loss = make(num=8)(h, offsets).loss(torch.tensor([0, 1, 0]))
    assert torch.isfinite(loss).all()
