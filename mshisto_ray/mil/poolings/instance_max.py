"""Instance classifier, maximum over the bag."""

from __future__ import annotations

import torch
from torch import nn

from mshisto_ray.mil.poolings import _pooling
from mshisto_ray.mil.ragged import segments


class InstanceMax(nn.Module):
    """P = max_k p_k, with p_k = sigm(f(h_k)).

    The maximum is taken of logits, which is the same, as sigm grows with its
    argument, and loses nothing to rounding near 1. More than two classes (not in the
    paper): each class's logit is its largest over the bag, then a softmax.

    Source: Ilse et al. 2018, instance-level approach with max pooling.
    """

    def __init__(self, dim: int, num_classes: int):
        super().__init__()
        self.classifier = nn.Linear(dim, _pooling.num_logits(num_classes))

    def forward(self, h: torch.Tensor, offsets: torch.Tensor) -> _pooling.Pooled:
        """Instances [N, D] and offsets [B + 1] to ``Pooled``."""
        segments.check_bags(h, offsets)
        logits = self.classifier(h)
        largest = segments.segment_max(logits, offsets)
        bag = _pooling.log_probabilities(largest)
        instances = _pooling.log_probabilities(logits).exp()
        return _pooling.Pooled(bag, instance_probabilities=instances, outputs=largest)


def build(dim: int, num_classes: int) -> nn.Module:
    """Instance classifier, maximum over the bag."""
    return InstanceMax(dim, num_classes)
