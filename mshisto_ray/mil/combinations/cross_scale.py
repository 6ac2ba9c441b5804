"""Multi-scale attention: a coarse tile attends to the finer tiles of its area."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from mshisto_ray.mil.combinations._combination import Combined, Finer
from mshisto_ray.mil.ragged import segments


class CrossScaleAttention(nn.Module):
    """One pair of scales: h + enlarge(W_O [head_1, ..., head_H]).

    head_i = softmax(q_i K_i^T / sqrt(d)) V_i over the present children of the tile,
    with q from the coarse tile, K and V from its children, all reduced to ``width``
    by a linear layer and ReLU first. H projections of d each, whatever ``width`` is:
    4 of 128 on 2048, as the paper has it, is not a split of the width in 4. A tile
    without children stays as it is.

    Source: Tan et al. 2023, section 3.3.1 (MSA); Vaswani et al. 2017.
    """

    def __init__(self, dim: int, fine_dim: int, width: int, heads: int, head_dim: int):
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        inner = heads * head_dim
        self.reduce = nn.Sequential(nn.Linear(dim, width), nn.ReLU())
        self.reduce_fine = nn.Sequential(nn.Linear(fine_dim, width), nn.ReLU())
        self.query = nn.Linear(width, inner)
        self.key, self.value = nn.Linear(width, inner), nn.Linear(width, inner)
        self.out = nn.Linear(inner, width)
        self.enlarge = nn.Linear(width, dim)

    def forward(
        self, h: torch.Tensor, fine: torch.Tensor, offsets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tiles [N, D], children [M, F] and offsets [N + 1].

        Returns:
            [N, D], and the mean over heads of the weight of each child [M].
        """
        reduced = self.reduce_fine(fine)
        query = self._split(self.query(self.reduce(h)))
        key, value = self._split(self.key(reduced)), self._split(self.value(reduced))
        spread = segments.spread(query, offsets)
        scores = (spread * key).sum(-1) / math.sqrt(self.head_dim)
        weights = segments.segment_softmax(scores, offsets)
        weighted = (weights[..., None] * value).flatten(1)
        found = self.enlarge(self.out(segments.segment_sum(weighted, offsets)))
        has_children = (offsets.diff() > 0).to(h.device)[:, None]
        return h + torch.where(has_children, found, 0.0), weights.mean(1)

    def _split(self, values: torch.Tensor) -> torch.Tensor:
        return values.unflatten(-1, (self.heads, self.head_dim))


class CrossScale(nn.Module):
    """``CrossScaleAttention`` of every pair of neighbouring scales, finest first.

    The tiles of a middle scale attend to their children before the coarser tiles
    attend to them: the paper's plan for more than two scales.
    """

    def __init__(
        self, dims: Sequence[int], width: int | None, heads: int, head_dim: int
    ):
        super().__init__()
        self.width = dims[0]
        self.pairs = nn.ModuleList(
            [
                CrossScaleAttention(dim, fine, width or min(2048, dim), heads, head_dim)
                for dim, fine in itertools.pairwise(dims)
            ]
        )

    def forward(self, h: torch.Tensor, finer: Sequence[Finer]) -> Combined:
        """Tiles [N, D] and each finer scale to [N, D]."""
        tiles = [h, *(scale.h for scale in finer)]
        attention: list[torch.Tensor] = []
        for place in range(len(finer) - 1, -1, -1):
            pair, offsets = self.pairs[place], finer[place].offsets
            tiles[place], weights = pair(tiles[place], tiles[place + 1], offsets)
            attention.insert(0, weights)
        return Combined(tiles[0], tuple(attention))


def build(
    dims: Sequence[int],
    *,
    width: Annotated[int, Field(ge=1)] | None = None,
    heads: Annotated[int, Field(ge=1)] = 4,
    head_dim: Annotated[int, Field(ge=1)] = 128,
) -> nn.Module:
    """Multi-scale attention.

    ``width``: of the bottleneck, the paper's 2048; null: that or the tile's, whichever
    is less. ``heads`` of ``head_dim`` each.
    """
    return CrossScale(dims, width, heads, head_dim)
