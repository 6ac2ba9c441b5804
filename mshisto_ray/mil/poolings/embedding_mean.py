"""Mean embedding over the bag, then a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from mshisto_ray.mil.poolings import _pooling
from mshisto_ray.mil.ragged import segments


class EmbeddingMean(nn.Module):
    """P = sigm(w . z + b), with z = (1 / K) sum_k h_k.

    More than two classes: a softmax of one linear map per class. ReLU layers between
    z and the classifier make it the predictor of Tan et al. 2023, section 3.3 (theirs
    has a ReLU only after the first of two layers).

    Source: Ilse et al. 2018, embedding-level approach with mean pooling.
    """

    def __init__(self, dim: int, num_classes: int, hidden: Sequence[int]):
        super().__init__()
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(dim, width), nn.ReLU()]
            dim = width
        self.predictor = nn.Sequential(*layers)
        self.classifier = nn.Linear(dim, _pooling.num_logits(num_classes))

    def forward(self, h: torch.Tensor, offsets: torch.Tensor) -> _pooling.Pooled:
        """Instances [N, D] and offsets [B + 1] to ``Pooled``."""
        segments.check_bags(h, offsets)
        z = segments.segment_mean(h, offsets)
        logits = self.classifier(self.predictor(z))
        return _pooling.Pooled(_pooling.log_probabilities(logits), outputs=logits)


def build(
    dim: int,
    num_classes: int,
    *,
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (),
) -> nn.Module:
    """Mean embedding, then a classifier; ``hidden``: ReLU layers between the two."""
    return EmbeddingMean(dim, num_classes, hidden)
