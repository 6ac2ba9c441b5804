"""Attention-weighted mean embedding, then a classifier."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from mshisto_ray.mil import segments
from mshisto_ray.mil.poolings import _pooling


class Attention(nn.Module):
    """P = sigm(u . z + b), with z = sum_k a_k h_k, a = softmax_k(w . tanh(V h_k)).

    One w for all instances: the paper's slides index it by instance, which would
    leave the operator undefined for bags of other sizes. V and w have biases, as in
    the authors' code (that of w cancels in the softmax). More than two classes: one
    z, and a softmax of one linear map a class.

    Source: Ilse et al. 2018, attention-based MIL pooling.
    """

    def __init__(self, dim: int, num_classes: int, hidden: int):
        super().__init__()
        self.tanh = nn.Linear(dim, hidden)
        self.score = nn.Linear(hidden, 1)
        self.classifier = nn.Linear(dim, _pooling.num_logits(num_classes))

    def forward(self, h: torch.Tensor, offsets: torch.Tensor) -> _pooling.Pooled:
        """Instances [N, D] and offsets [B + 1] to ``Pooled``."""
        segments.check_bags(h, offsets)
        scores = self.score(torch.tanh(self.tanh(h)))[:, 0]
        weights = segments.segment_softmax(scores, offsets)
        z = segments.segment_weighted_sum(weights, h, offsets)
        logits = self.classifier(z)
        return _pooling.Pooled(_pooling.log_probabilities(logits), attention=weights)


def build(
    dim: int, num_classes: int, *, hidden: Annotated[int, Field(ge=1)] = 128
) -> nn.Module:
    """Attention-weighted mean embedding; ``hidden``: rows of V (the paper's 128)."""
    return Attention(dim, num_classes, hidden)
