"""The projection head of pretraining, and a network that ends with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class HeadShape:
    """A projection head.

    ``width``: of its input; ``flat``: its input is the last feature maps, flattened,
    not the pooled features; ``hidden``, ``dim``: widths of its layers.
    """

    width: int
    flat: bool
    hidden: Sequence[int]
    dim: int
    batch_norm: bool
    relu: bool


def make_head(shape: HeadShape) -> nn.Sequential:
    """A head with random initial weights."""
    layers: list[nn.Module] = []
    width = shape.width
    for hidden in shape.hidden:
        layers.append(nn.Linear(width, hidden))
        layers += [nn.BatchNorm1d(hidden)] if shape.batch_norm else []
        layers += [nn.ReLU()] if shape.relu else []
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, shape.dim))


class ProjectedNetwork(nn.Module):
    """A timm network whose features are those after the head, [B, P].

    It has the two methods of a timm network that embedding calls.
    """

    def __init__(self, backbone: nn.Module, head: nn.Sequential, flat: bool):
        super().__init__()
        self.backbone, self.head, self._flat = backbone, head, flat

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Feature maps of normalised images [B, 3, H, W]."""
        return self.backbone.forward_features(x)  # pyright: ignore[reportCallIssue]

    def forward_head(self, maps: torch.Tensor, pre_logits: bool) -> torch.Tensor:
        """Projections of feature maps."""
        if self._flat:
            return self.head(maps.flatten(1))
        pooled = self.backbone.forward_head(maps, pre_logits=pre_logits)  # pyright: ignore[reportCallIssue]
        return self.head(pooled)
