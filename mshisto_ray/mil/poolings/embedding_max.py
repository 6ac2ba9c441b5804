"""Largest value of each feature over the bag, then a classifier."""

from __future__ import annotations

import torch
from torch import nn

from mshisto_ray.mil.poolings import _pooling
from mshisto_ray.mil.ragged import segments


class EmbeddingMax(nn.Module):
    """P = sigm(w . z + b), with z = max_k h_kd for every feature d.

    More than two classes: a softmax of one linear map per class.

    Source: Ilse et al. 2018, embedding-level approach with max pooling.
    """

    def __init__(self, dim: int, num_classes: int):
        super().__init__()
        self.classifier = nn.Linear(dim, _pooling.num_logits(num_classes))

    def forward(self, h: torch.Tensor, offsets: torch.Tensor) -> _pooling.Pooled:
        """Instances [N, D] and offsets [B + 1] to ``Pooled``."""
        segments.check_bags(h, offsets)
        logits = self.classifier(segments.segment_max(h, offsets))
        return _pooling.Pooled(_pooling.log_probabilities(logits), outputs=logits)


def build(dim: int, num_classes: int) -> nn.Module:
    """Largest value of each feature over the bag, then a classifier."""
    return EmbeddingMax(dim, num_classes)
