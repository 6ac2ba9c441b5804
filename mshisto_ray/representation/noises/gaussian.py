"""Additive Gaussian noise, of one strength in every direction."""

from __future__ import annotations

import torch

from mshisto_ray.representation.noises import Noise, Strength, unchanged
from mshisto_ray.representation.space import Space


def build(space: Space, *, sigma: Strength = 0.0) -> Noise:
    """Add sigma * e to the embeddings, with e ~ N(0, 1) for every value; 0 adds none.

    Without a reduction ``sigma`` is in standard deviations of each feature on the
    training fold.

    Source: Nivaggioli et al. 2023, noise on embeddings as augmentation. The paper
    gives neither a strength nor a unit; a strength relative to each feature's spread
    is ours.
    """
    if sigma == 0:
        return unchanged

    def add(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        noise = torch.empty_like(values).normal_(0, sigma, generator=generator)
        return noise.add_(values)

    return add
