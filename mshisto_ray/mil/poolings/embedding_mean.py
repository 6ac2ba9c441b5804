"""Mean embedding over the bag, then a classifier."""

from __future__ import annotations

import torch
from torch import nn

from mshisto_ray.mil import segments
from mshisto_ray.mil.poolings import _pooling


class EmbeddingMean(nn.Module):
    """P = sigm(w . z + b), with z = (1 / K) sum_k h_k.

    More than two classes: a softmax of one linear map a class.

    Source: Ilse et al. 2018, embedding-level approach with mean pooling.
    """

    def __init__(self, dim: int, num_classes: int):
        super().__init__()
        self.classifier = nn.Linear(dim, _pooling.num_logits(num_classes))

    def forward(self, h: torch.Tensor, offsets: torch.Tensor) -> _pooling.Pooled:
        """Instances [N, D] and offsets [B + 1] to ``Pooled``."""
        segments.check_bags(h, offsets)
        logits = self.classifier(segments.segment_mean(h, offsets))
        return _pooling.Pooled(_pooling.log_probabilities(logits))


def build(dim: int, num_classes: int) -> nn.Module:
    """Mean embedding over the bag, then a classifier."""
    return EmbeddingMean(dim, num_classes)
