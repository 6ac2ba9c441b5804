"""Attention that varies smoothly over neighbouring tiles, then a classifier."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from mshisto_ray.mil.poolings import _pooling
from mshisto_ray.mil.poolings._attention import AttentionPooling
from mshisto_ray.mil.ragged import segments
from mshisto_ray.mil.ragged.neighbours import TileNeighbours

NEEDS_PLACES = True


class SmoothAttention(AttentionPooling):
    """Attention pooling with a = softmax_k(g_k), g the smoothed scores of its tiles.

    Of the scores f_k = w . e(h_k) (see ``AttentionPooling``), g = G(steps) of

        G(0) = f,   G(t) = alpha M G(t - 1) + (1 - alpha) f,

    where (M g)_k is the mean of g over the up to eight tiles around tile k in its
    slide, or g_k where there is none. As steps grow, g minimises

        alpha sum_{k ~ l} (g_k - g_l)^2 + (1 - alpha) sum_k n_k (g_k - f_k)^2

    over pairs of neighbours and tiles, n_k the number of a tile's neighbours: the
    Dirichlet energy against the distance from the scores.

    Source: Castro-Macias et al. 2024, Sm, its approximation in steps, on the scores
    ("late"). There M is an adjacency matrix that is normalised on both sides; with the
    mean of neighbours equal scores stay equal, also at an edge of the tissue, for
    which distances count n_k times. ``alpha`` is fixed here, there also learned.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        hidden: int,
        gated: bool,
        alpha: float,
        steps: int,
    ):
        super().__init__(dim, num_classes, hidden, gated)
        self.alpha, self.steps = alpha, steps

    def forward(
        self,
        h: torch.Tensor,
        offsets: torch.Tensor,
        places: torch.Tensor | None = None,
    ) -> _pooling.Pooled:
        """Instances [N, D], offsets [B + 1] and places [N, 2] to ``Pooled``."""
        segments.check_bags(h, offsets)
        if places is None:
            raise ValueError("smooth attention needs the places of tiles")
        scores = segments.widen(self.scores(h))
        neighbours, smooth = TileNeighbours(places, offsets, h.device), scores
        for _ in range(self.steps):
            mean = neighbours.mean(smooth)
            smooth = self.alpha * mean + (1 - self.alpha) * scores
        attention = segments.segment_softmax(smooth, offsets).squeeze(1)
        logits = self.classifier(segments.segment_weighted_sum(attention, h, offsets))
        log = _pooling.log_probabilities(logits)
        return _pooling.Pooled(log, attention, outputs=logits)


def build(
    dim: int,
    num_classes: int,
    *,
    hidden: Annotated[int, Field(ge=1)] = 128,
    gated: bool = False,
    alpha: Annotated[float, Field(ge=0, lt=1)] = 0.5,
    steps: Annotated[int, Field(ge=1)] = 10,
) -> nn.Module:
    """Attention that varies smoothly over neighbouring tiles.

    ``alpha``: weight of the neighbours, 0 for plain attention; ``steps``: of smoothing,
    as far as it reaches in tiles.
    """
    return SmoothAttention(dim, num_classes, hidden, gated, alpha, steps)
