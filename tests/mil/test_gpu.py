"""Results on GPUs equal those on CPUs."""

import itertools

import pytest
import torch
from fixtures.parts import checked, examples

from mshisto_ray import components
from mshisto_ray.mil.combinations import (
    Finer,
)
from mshisto_ray.mil.model import COMBINATIONS, POOLINGS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
DEVICES = ("cpu", "cuda")
# Padded, one by one, all of one size, one alone.
SIZES = [[3, 1, 7], [3000, 2900], [8] * 4, [5]]


def run(module, inputs, outputs):
    """Outputs and gradients on each device, on the CPU."""
    found = []
    for device in DEVICES:
        module.to(device).zero_grad()
        own = [x.detach().clone().to(device).requires_grad_() for x in inputs]
        out = outputs(module, own, device)
        sum(o.square().sum() for o in out).backward()
        weights = [p.grad for p in module.parameters()]
        kept = [*out, *(x.grad for x in own), *weights]
        found.append([k.detach().cpu().clone() for k in kept])
    return found


@pytest.mark.parametrize("name", components.available(POOLINGS))
@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_poolings(name, num_classes, sizes):
    torch.manual_seed(0)
    part = components.check(POOLINGS, components.Part(name=name))
    pool = components.build(POOLINGS, part, 6, num_classes).double()
    offsets = torch.tensor([0, *itertools.accumulate(sizes)])
    targets = torch.arange(len(sizes)) % num_classes

    def outputs(module, own, device):
        out = module(own[0], offsets)
        kept = out.log_probabilities, out.loss(targets.to(device)), out.attention
        return [k for k in kept if k is not None]

    one, two = run(pool, [torch.randn(sum(sizes), 6).double()], outputs)
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("part", examples(COMBINATIONS))
@pytest.mark.parametrize("counts", [[4, 0, 3], [0, 0], [300, 0, 5], [16] * 30], ids=str)
def test_combinations(part, counts):
    torch.manual_seed(0)
    if components.declaration(COMBINATIONS, part[0], "ONE_SCALE", False):
        return
    part = checked(COMBINATIONS, part)
    module = components.build(COMBINATIONS, part, (5, 4)).double()
    offsets = torch.tensor([0, *itertools.accumulate(counts)])
    tiles = torch.randn(len(counts), 5).double(), torch.randn(sum(counts), 4).double()

    def outputs(module, own, device):
        out, attention = module(own[0], [Finer(own[1], offsets)])
        return [out, *attention]

    one, two = run(module, tiles, outputs)
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b)
