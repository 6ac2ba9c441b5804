"""A coarse tile beside the mean of its finer tiles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mshisto_ray.mil.combinations._combination import Combined, Finer
from mshisto_ray.mil.ragged import segments


class Concat(nn.Module):
    """[h, mean of present children, mean of their present children, ...].

    A tile with no finer tile at a scale has zeros there, which is the mean of
    standardised embeddings. No parameters.

    Source: Tan et al. 2023, the conventional multi-scale model, whose features of all
    scales are concatenated; averaging the finer ones first is our addition.
    """

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, h: torch.Tensor, finer: Sequence[Finer]) -> Combined:
        """Tiles [N, D] and each finer scale to [N, sum of widths]."""
        parts = [segments.widen(h)]
        offsets = torch.arange(len(h) + 1)
        for scale in finer:
            offsets = scale.offsets[offsets]  # of all descendants of a coarse tile
            total = segments.segment_sum(scale.h, offsets)
            counts = offsets.diff().clamp(min=1).to(total)
            parts.append(total / counts[:, None])
        return Combined(torch.cat(parts, 1))


def build(dims: Sequence[int]) -> nn.Module:
    """A coarse tile beside the mean of its present finer tiles."""
    return Concat(sum(dims))
