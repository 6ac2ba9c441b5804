"""Gated-attention-weighted mean embedding, then a classifier."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from mshisto_ray.mil import segments
from mshisto_ray.mil.poolings import _pooling


class GatedAttention(nn.Module):
    """P = sigm(u . z + b), with z = sum_k a_k h_k.

    a = softmax_k(w . (tanh(V h_k) * sigm(U h_k))), the product elementwise. One w
    for all instances, biases and more than two classes as in ``attention``.

    Source: Ilse et al. 2018, attention with gating mechanism.
    """

    def __init__(self, dim: int, num_classes: int, hidden: int):
        super().__init__()
        self.tanh = nn.Linear(dim, hidden)
        self.gate = nn.Linear(dim, hidden)
        self.score = nn.Linear(hidden, 1)
        self.classifier = nn.Linear(dim, _pooling.num_logits(num_classes))

    def forward(self, h: torch.Tensor, offsets: torch.Tensor) -> _pooling.Pooled:
        """Instances [N, D] and offsets [B + 1] to ``Pooled``."""
        segments.check_bags(h, offsets)
        gated = torch.tanh(self.tanh(h)) * torch.sigmoid(self.gate(h))
        weights = segments.segment_softmax(self.score(gated)[:, 0], offsets)
        z = segments.segment_weighted_sum(weights, h, offsets)
        logits = self.classifier(z)
        return _pooling.Pooled(_pooling.log_probabilities(logits), attention=weights)


def build(
    dim: int, num_classes: int, *, hidden: Annotated[int, Field(ge=1)] = 128
) -> nn.Module:
    """Gated attention; ``hidden``: rows of V and U (the paper's 128)."""
    return GatedAttention(dim, num_classes, hidden)
