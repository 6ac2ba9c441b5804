"""Supervised contrastive loss with explicit positives, negatives and ignored pairs."""

from __future__ import annotations

from typing import Annotated, Literal

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


class SupervisedContrastive(nn.Module):
    """L = mean_i of -1/|P(i)| sum_{p in P(i)} log(exp(s_ip / t) / denominator_ip).

    s is the cosine, t the temperature and P(i) the positives of anchor i; anchors
    without any are left out. The denominator sums exp(s_ik / t) over positives and
    negatives (``all``), or over negatives and this positive (``negatives``).

    Source: Khosla et al. 2020, L_out; Tan et al. 2023, the SCL equation. As printed
    there, the sums include the anchor itself, whose constant term would outweigh the
    others; here it is left out as in Khosla et al. ``sum`` is Tan's outer sum.
    """

    def __init__(
        self,
        temperature: float,
        denominator: Literal["all", "negatives"],
        reduction: Literal["mean", "sum"],
    ):
        super().__init__()
        self.temperature = temperature
        self.denominator = denominator
        self.reduction = reduction

    def forward(
        self, z: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
    ) -> torch.Tensor:
        """The loss of projections [M, D] with relations [M, M]."""
        with without_autocast(z):
            z = unit_rows(full_precision(z))
            scores = z @ z.T / self.temperature
            if self.denominator == "all":
                total = log_sum_exp(scores, positive | negative)[:, None]
                costs = total - scores
            else:
                others = log_sum_exp(scores, negative)[:, None]
                costs = functional.softplus(others - scores)
            counts = positive.sum(dim=1)
            costs = costs.masked_fill(~positive, 0).sum(dim=1) / counts.clamp(min=1)
            if self.reduction == "sum" or not counts.any():
                return costs.sum() + zero_loss(z)
            return costs.sum() / (counts > 0).sum()


def build(
    *,
    temperature: Annotated[float, Field(gt=0)] = 0.1,
    denominator: Literal["all", "negatives"] = "all",
    reduction: Literal["mean", "sum"] = "mean",
) -> SupervisedContrastive:
    """Supervised contrastive loss.

    Args:
        temperature: divides cosines.
        denominator: ``all`` related pairs of the anchor, or its ``negatives`` and the
            current positive.
        reduction: over anchors that have positives.
    """
    return SupervisedContrastive(temperature, denominator, reduction)
