"""What every reduction owes, whoever adds it."""

import pytest
import torch
from fixtures.parts import checked, examples
from fixtures.spaces import rows

from mshisto_ray import components

FAMILY = "mshisto_ray.representation.reductions"


def fitted(part, values):
    reduction = components.build(FAMILY, checked(FAMILY, part), values.shape[1], 3)
    codes = torch.arange(len(values)) % 3
    return reduction, reduction.fit(values, codes)


@pytest.mark.parametrize("part", examples(FAMILY))
def test_width_scale_and_input(part):
    values = rows(300, 12)
    reduction, state = fitted(part, values)
    before = values.clone()
    found = reduction.apply(state, values)
    assert found.shape == (300, reduction.width) and found.dtype == torch.float32
    assert torch.equal(values, before)
    assert all(isinstance(v, torch.Tensor) for v in state.values())
    scale = float(found.square().mean())
    assert scale == pytest.approx(1, abs=0.05), "strengths of noises compare"


@pytest.mark.parametrize("part", examples(FAMILY))
def test_rows_are_mapped_one_by_one(part):
    values, others = rows(300, 12), rows(40, 12, seed=8)
    reduction, state = fitted(part, values)
    whole = reduction.apply(state, others)
    each = torch.cat([reduction.apply(state, row[None]) for row in others])
    torch.testing.assert_close(whole, each, rtol=1e-3, atol=1e-4)
    assert reduction.apply(state, others[:0]).shape == (0, reduction.width)


@pytest.mark.parametrize("part", examples(FAMILY))
def test_linear_says_whether_differences_can_be_mapped(part):
    values = rows(300, 12)
    reduction, state = fitted(part, values)

    def apply(rows):
        return reduction.apply(state, rows)

    one, other, zero = values[:1], values[1:2], torch.zeros(1, 12)
    left = apply(one + other) - apply(zero)
    right = apply(one) + apply(other) - 2 * apply(zero)
    assert torch.allclose(left, right, atol=1e-4) == reduction.linear
