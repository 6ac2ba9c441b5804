"""Set transformer: instances exchange information through a few learned points."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from mshisto_ray.mil.poolings import _pooling
from mshisto_ray.mil.ragged import segments


class _Attend(nn.Module):
    """Multi-head attention between the instances of bags and tokens of each bag."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def gather(
        self, tokens: torch.Tensor, h: torch.Tensor, offsets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attend from tokens [M, W], the same for every bag, to the bag's instances.

        Returns:
            [B, M, W], and the weights [N, H, M].
        """
        query = self._split(self.query(tokens))
        key, value = self._split(self.key(h)), self._split(self.value(h))
        scores = torch.einsum("nhw,mhw->nhm", key, query) / math.sqrt(key.shape[-1])
        weights = segments.segment_softmax(scores, offsets)
        heads = [
            segments.segment_weighted_sum(weights[:, i], value[:, i], offsets)
            for i in range(self.heads)
        ]
        return self.out(torch.cat(heads, -1)), weights

    def scatter(
        self, h: torch.Tensor, tokens: torch.Tensor, offsets: torch.Tensor
    ) -> torch.Tensor:
        """Attend from instances [N, W] to the tokens [B, M, W] of their bag: [N, W]."""
        query = self._split(self.query(h))
        key, value = self._split(self.key(tokens)), self._split(self.value(tokens))
        if segments.one_by_one(offsets, h.device):
            sizes = offsets.diff().tolist()
            parts = [
                functional.scaled_dot_product_attention(
                    q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)
                ).transpose(0, 1)
                for q, k, v in zip(query.split(sizes), key, value, strict=True)
            ]
            mixed = torch.cat(parts)
        else:
            own = segments.spread(torch.arange(len(tokens), device=h.device), offsets)
            scores = torch.einsum("nhw,nmhw->nhm", query, key[own])
            weights = (scores / math.sqrt(query.shape[-1])).softmax(-1)
            mixed = torch.einsum("nhm,nmhw->nhw", weights.to(value), value[own])
        return self.out(mixed.flatten(1))

    def _split(self, values: torch.Tensor) -> torch.Tensor:
        return values.unflatten(-1, (self.heads, -1))


class _TransformerBlock(nn.Module):
    """Induced set attention: points attend to the bag, then the bag to the points."""

    def __init__(self, width: int, heads: int, points: int):
        super().__init__()
        self.points = nn.Parameter(torch.randn(points, width) / math.sqrt(width))
        self.gather, self.scatter = _Attend(width, heads), _Attend(width, heads)
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.last = nn.LayerNorm(width)
        self.mix = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, h: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """[N, W] to [N, W]."""
        normed = self.before(h)
        found, _ = self.gather.gather(self.points, normed, offsets)
        h = h + self.scatter.scatter(normed, self.between(found), offsets)
        return h + self.mix(self.last(h))


class SetTransformer(nn.Module):
    """Blocks of induced set attention, a learned query that pools, a classifier.

    No position is encoded and softmaxes are taken within a bag, so neither the order
    of instances nor other bags matter; cost grows with N times ``points``, not with N
    squared. ``attention`` is that of the pooling query, the mean over
    heads. Layer norms come before attention, which trains without a warm-up.

    Source: Lee et al. 2019, set transformer, equations 9 to 11 (ISAB, PMA).
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        width: int,
        heads: int,
        points: int,
        layers: int,
    ):
        super().__init__()
        self.enter = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(
            [_TransformerBlock(width, heads, points) for _ in range(layers)]
        )
        self.seed = nn.Parameter(torch.randn(1, width) / math.sqrt(width))
        self.pool = _Attend(width, heads)
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, _pooling.num_logits(num_classes))

    def forward(self, h: torch.Tensor, offsets: torch.Tensor) -> _pooling.Pooled:
        """Instances [N, D] and offsets [B + 1] to ``Pooled``."""
        segments.check_bags(h, offsets)
        h = self.enter(h)
        for block in self.blocks:
            h = block(h, offsets)
        z, weights = self.pool.gather(self.seed, self.norm(h), offsets)
        logits = self.classifier(z[:, 0])
        bag = _pooling.log_probabilities(logits)
        return _pooling.Pooled(bag, attention=weights.mean((1, 2)), outputs=logits)


def build(
    dim: int,
    num_classes: int,
    *,
    width: Annotated[int, Field(ge=1)] = 128,
    heads: Annotated[int, Field(ge=1)] = 4,
    points: Annotated[int, Field(ge=1)] = 16,
    layers: Annotated[int, Field(ge=1)] = 2,
) -> nn.Module:
    """Set transformer; ``points``: learned tokens that instances attend through."""
    if width % heads:
        raise ValueError(
            f"transformer.width={width} is not a multiple of heads={heads}"
        )
    return SetTransformer(dim, num_classes, width, heads, points, layers)
