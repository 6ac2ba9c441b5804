"""DSMIL against plain loops."""

import pytest
import torch
from fixtures.poolings import bags, batch, pooling
from torch.nn import functional

pytestmark = pytest.mark.usefixtures("every_form")
DIM = 5
SIZES = [[3, 1, 9, 20], [80, 1, 130]]
sizes = pytest.mark.parametrize("sizes", SIZES, ids=str)
classes = pytest.mark.parametrize("num_classes", [2, 3])


def make(num_classes=2, **keys):
    return pooling("dsmil", num_classes, torch.float64, DIM, **keys)


def log_p(logits):
    if len(logits) > 1:
        return functional.log_softmax(logits, 0)
    return torch.cat([functional.logsigmoid(-logits), functional.logsigmoid(logits)])


@classes
@sizes
@pytest.mark.parametrize("project", [False, True])
def test_dsmil_equals_a_loop(num_classes, sizes, project):
    pool = make(num_classes, hidden=4, project=project)
    h, offsets = batch(sizes, torch.float64, DIM)
    targets = torch.arange(len(sizes)) % num_classes
    out = pool(h, offsets)
    for i, bag in enumerate(bags(h, offsets)):
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
