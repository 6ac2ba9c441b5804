"""Features of an embedding that are left out at random."""

from __future__ import annotations

import torch

from mshisto_ray.representation.noises import Noise, Strength, unchanged
from mshisto_ray.representation.space import Space


def build(space: Space, *, sigma: Strength = 0.0) -> Noise:
    """Set each value to its mean, 0, with probability p; divide others by 1 - p.

    p = sigma^2 / (1 + sigma^2), for which E|h' - h|^2 = sigma^2 |h|^2: 0.1 leaves out
    1 %, 0.5 20 %, 1 half of them.

    Source: Srivastava et al. 2014, dropout, on the inputs of a head.
    """
    if sigma == 0:
        return unchanged
    kept = 1 / (1 + sigma**2)

    def drop(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        mask = torch.empty_like(values).bernoulli_(kept, generator=generator)
        return mask.div_(kept).mul_(values)

    return drop
