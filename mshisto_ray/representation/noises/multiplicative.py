"""Noise in proportion to each value."""

from __future__ import annotations

import torch

from mshisto_ray.representation.noises import Noise, Strength, normal, unchanged
from mshisto_ray.representation.space import Space


def build(space: Space, *, sigma: Strength = 0.0) -> Noise:
    """Multiply every value by 1 + sigma * e, with e ~ N(0, 1)."""
    if sigma == 0:
        return unchanged

    def scale(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return normal(values, generator).mul_(sigma).add_(1).mul_(values)

    return scale
