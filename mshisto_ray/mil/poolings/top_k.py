"""Instance classifier, mean of the k largest logits of the bag."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from mshisto_ray.mil.poolings import _pooling
from mshisto_ray.mil.ragged import segments

DEPENDS_ON_COUNT = True


class TopK(nn.Module):
    """P = sigm((1 / k) sum of the k largest x_j), x_j the logit of instance j.

    k = 1 is the instance maximum; a bag of fewer than k instances is averaged whole.
    More than two classes: the k largest of each class's logits, then a softmax.

    Source: Durand, Thome, Cord 2016 (WELDON), pooling of the top instances.
    """

    def __init__(self, dim: int, num_classes: int, k: int):
        super().__init__()
        self.classifier = nn.Linear(dim, _pooling.num_logits(num_classes))
        self.k = k

    def forward(self, h: torch.Tensor, offsets: torch.Tensor) -> _pooling.Pooled:
        """Instances [N, D] and offsets [B + 1] to ``Pooled``."""
        segments.check_bags(h, offsets)
        logits = segments.widen(self.classifier(h))
        counts = offsets.diff().clamp(max=self.k)
        rows, ends = segments.segment_top(logits, offsets, counts)
        top = segments.segment_mean(logits.gather(0, rows), ends)
        bag = _pooling.log_probabilities(top)
        instances = _pooling.log_probabilities(logits).exp()
        return _pooling.Pooled(bag, instance_probabilities=instances, outputs=top)


def build(
    dim: int, num_classes: int, *, k: Annotated[int, Field(ge=1)] = 10
) -> nn.Module:
    """Mean of the k largest logits of the bag."""
    return TopK(dim, num_classes, k)
