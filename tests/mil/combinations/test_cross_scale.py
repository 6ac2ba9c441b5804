import math

import pytest
import torch
from fixtures.combinations import COUNTS, each, make, tiles

from mshisto_ray.mil.combinations import Finer

pytestmark = pytest.mark.usefixtures("every_form")
EXAMPLES = [{"width": 6, "heads": 2, "head_dim": 3}]
counts = pytest.mark.parametrize("counts", COUNTS, ids=str)


@counts
def test_cross_scale_equals_a_loop_over_tiles_heads_and_children(counts):
    module = make(("cross_scale", EXAMPLES[0]), (5, 4))
    h, fine = tiles(counts)
    out, (weights,) = module(h, [fine])
    (pair,) = module.pairs
    for i, (token, children) in enumerate(
        zip(h, each(fine.h, fine.offsets), strict=True)
    ):
        if not len(children):
            torch.testing.assert_close(out[i], token)
            continue
        query = pair.query(pair.reduce(token))
        heads, mean = [], 0
        for head in (slice(0, 3), slice(3, 6)):
            scores = []
            for child in children:
                key = pair.key(pair.reduce_fine(child))
                scores.append(query[head] @ key[head] / math.sqrt(3))
            a = torch.softmax(torch.stack(scores), 0)
            values = [pair.value(pair.reduce_fine(child))[head] for child in children]
            heads.append(sum(ak * v for ak, v in zip(a, values, strict=True)))
            mean = mean + a / 2
        wanted = token + pair.enlarge(pair.out(torch.cat(heads)))
        torch.testing.assert_close(out[i], wanted)
        torch.testing.assert_close(each(weights, fine.offsets)[i], mean)


def test_the_papers_heads_are_no_split_of_the_width():
    module = make("cross_scale", (3000, 3000), torch.float32, heads=4, head_dim=128,
                  width=2048)  # fmt: skip
    (pair,) = module.pairs
    assert pair.query.weight.shape == (512, 2048)
    assert pair.out.weight.shape == (2048, 512)
    assert pair.enlarge.weight.shape == (3000, 2048)
    default = make("cross_scale", (64, 64), width=None)
    assert default.pairs[0].out.weight.shape[0] == 64


def test_three_scales_go_through_the_middle():
    module = make(("cross_scale", EXAMPLES[0]), (5, 4, 3))
    h, middle = tiles([2, 0, 1])
    fine = Finer(torch.randn(5, 3).double(), torch.tensor([0, 4, 4, 5]))
    out, attention = module(h, [middle, fine])
    outer, inner = module.pairs
    changed, weights = inner(middle.h, fine.h, fine.offsets)
    wanted, above = outer(h, changed, middle.offsets)
    torch.testing.assert_close(out, wanted)
    torch.testing.assert_close(attention, (above, weights))
