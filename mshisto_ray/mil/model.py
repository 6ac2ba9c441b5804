"""A MIL model: instances transformed one by one, then pooled and classified."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mshisto_ray import components
from mshisto_ray.components import Part
from mshisto_ray.mil.poolings._pooling import Pooled

POOLINGS = "mshisto_ray.mil.poolings"


class MILModel(nn.Module):
    """Linear and ReLU layers of the given widths, dropout, then a pooling.

    Args:
        dim: width D of an instance.
        num_classes: C.
        hidden: widths of the layers; none: the pooling sees the instances as they
            are (after dropout).
        dropout: probability, once, on what the pooling sees.
        pooling: part of the poolings family.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        hidden: Sequence[int],
        dropout: float,
        pooling: Part,
    ):
        super().__init__()
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(dim, width), nn.ReLU()]
            dim = width
        if dropout:
            layers.append(nn.Dropout(dropout))
        self.transform = nn.Sequential(*layers)
        self.pooling: nn.Module = components.build(POOLINGS, pooling, dim, num_classes)

    def forward(self, h: torch.Tensor, offsets: torch.Tensor) -> Pooled:
        """Instances [N, D] and offsets [B + 1] of B bags to ``Pooled``."""
        return self.pooling(self.transform(h), offsets)
