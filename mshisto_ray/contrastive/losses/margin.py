"""Margin loss on the distances of positive and negative pairs."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import nn

from mshisto_ray.contrastive.losses._loss import (
    full_precision,
    unit_rows,
    without_autocast,
    zero_loss,
)
from mshisto_ray.contrastive.monitor import dead_negatives


class Margin(nn.Module):
    """Positive pairs are pulled together, negative ones pushed a margin apart.

    A positive pair at distance d costs d^p, a negative one max(0, m - d)^p, with
    p = 2 if ``squared``, else 1. The loss is the mean over pairs; ``balanced``: half
    the mean over positive pairs and half that over negative ones. The two are the same
    for batches of half and half, as published.

    Source: Gildenblat and Klaiman 2019, equation 1 (p = 1; neither the margin nor
    whether descriptors are normalised is given); squared as in Hadsell et al. 2006.
    """

    def __init__(self, margin: float, squared: bool, normalize: bool, balanced: bool):
        super().__init__()
        self.margin = margin
        self.squared = squared
        self.normalize = normalize
        self.balanced = balanced

    def forward(
        self, z: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
    ) -> torch.Tensor:
        """The loss of projections [M, D] with relations [M, M]."""
        with without_autocast(z):
            distance = self.distances(z)
            near, far = distance[positive.triu()], distance[negative.triu()]
            costs = [near, (self.margin - far).clamp(min=0)]
            if self.squared:
                costs = [cost.square() for cost in costs]
            if not self.balanced:
                costs = [torch.cat(costs)]
            means = [cost.mean() for cost in costs if len(cost)]
            return torch.stack(means).mean() if means else zero_loss(distance)

    def monitors(
        self, z: np.ndarray, positive: np.ndarray, negative: np.ndarray
    ) -> dict[str, float]:
        """Share of negative pairs of projections [M, D] that cost nothing."""
        dead = dead_negatives(z, negative, self.margin, self.normalize)
        return {"dead_negatives": dead}

    def distances(self, z: torch.Tensor) -> torch.Tensor:
        """Euclidean distances [M, M] of projections [M, D].

        From differences: 2 - 2 cos loses small distances to rounding. The gradient at
        distance zero is the subgradient zero.
        """
        z = full_precision(z)
        z = unit_rows(z) if self.normalize else z
        return torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")


def build(
    *,
    margin: Annotated[float, Field(gt=0)] = 1.0,
    squared: bool = True,
    normalize: bool = True,
    balanced: bool = True,
) -> Margin:
    """Margin loss.

    Args:
        margin: distance beyond which a negative pair costs nothing; normalised
            projections are at most 2 apart, raw ones need about 10.
        squared: square the costs.
        normalize: put projections on the unit sphere first.
        balanced: positive and negative pairs weigh the same, whatever their numbers.
    """
    return Margin(margin, squared, normalize, balanced)
