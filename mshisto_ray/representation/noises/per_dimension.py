"""Gaussian noise in proportion to the spread of each dimension."""

from __future__ import annotations

import torch

from mshisto_ray.representation.noises import Noise, Strength, normal, unchanged
from mshisto_ray.representation.space import Space


def build(space: Space, *, sigma: Strength = 0.0) -> Noise:
    """Add sigma * s_d * e to dimension d, whose training fold has the spread s_d.

    Features that are standardised and not reduced all have a spread of 1: there it
    differs from ``gaussian`` only in constant features, which stay as they are. After a
    reduction, directions of little variance get little noise.
    """
    if sigma == 0:
        return unchanged
    rows = space.rows.double()
    spread = rows.square().mean(0).sqrt()
    scale = (sigma * spread).float()

    def add(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        noise = normal(values, generator)
        return noise.mul_(scale.to(values.device)).add_(values)

    return add
