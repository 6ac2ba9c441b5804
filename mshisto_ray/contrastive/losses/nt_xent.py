"""NT-Xent: each positive pair is contrasted with the anchor's negatives."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from mshisto_ray.contrastive.losses._loss import (
    full_precision,
    log_sum_exp,
    unit_rows,
    without_autocast,
    zero_loss,
)


class NTXent(nn.Module):
    """Normalised, temperature-scaled cross entropy of positive pairs.

    L = mean over ordered positive pairs (i, j) of
    -log(exp(s_ij / t) / (exp(s_ij / t) + sum_k exp(s_ik / t))), k over the negatives
    of i, s the cosine and t the temperature. The relations define the pairs (near
    tiles, one place at two scales, two augmentations of a tile).

    Source: Chen et al. 2020, equation 1 (one positive an anchor, all others negative).
    """

    def __init__(self, temperature: float):
        super().__init__()
        self.temperature = temperature

    def forward(
        self, z: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
    ) -> torch.Tensor:
        """The loss of projections [M, D] with relations [M, M]."""
        with without_autocast(z):
            z = unit_rows(full_precision(z))
            scores = z @ z.T / self.temperature
            others = log_sum_exp(scores, negative)[:, None]
            # -log(a / (a + b)) = softplus(log b - log a)
            costs = functional.softplus(others - scores)[positive]
            return costs.mean() if len(costs) else zero_loss(z)


def build(*, temperature: Annotated[float, Field(gt=0)] = 0.1) -> NTXent:
    """NT-Xent; ``temperature`` divides cosines."""
    return NTXent(temperature)
