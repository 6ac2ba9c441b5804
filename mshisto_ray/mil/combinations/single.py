"""One scale: an instance is a tile."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mshisto_ray.mil.combinations._combination import Combined, Finer

ONE_SCALE = True


class Single(nn.Module):
    """Tiles as they are."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, h: torch.Tensor, finer: Sequence[Finer]) -> Combined:
        """Tiles [N, D], and no finer ones."""
        assert not finer
        return Combined(h)


def build(dims: Sequence[int]) -> nn.Module:
    """One scale: an instance is a tile."""
    return Single(dims[0])
