"""Instance classifier, mean probability over the bag."""

from __future__ import annotations

import torch
from torch import nn

from mshisto_ray.mil.poolings import _pooling
from mshisto_ray.mil.ragged import segments

DILUTES = True
NEEDS_CLASSES = True


class InstanceMean(nn.Module):
    """P = (1 / K) sum_k p_k, with p_k = sigm(f(h_k)): a mean of probabilities.

    Not of logits, which is another operator. More than two classes: p_k is a softmax.

    Source: Ilse et al. 2018, instance-level approach with mean pooling.
    """

    def __init__(self, dim: int, num_classes: int):
        super().__init__()
        self.classifier = nn.Linear(dim, _pooling.num_logits(num_classes))

    def forward(self, h: torch.Tensor, offsets: torch.Tensor) -> _pooling.Pooled:
        """Instances [N, D] and offsets [B + 1] to ``Pooled``."""
        segments.check_bags(h, offsets)
        instances = _pooling.log_probabilities(self.classifier(h))
        return _pooling.mean_of_instances(instances, offsets)


def build(dim: int, num_classes: int) -> nn.Module:
    """Instance classifier, mean probability over the bag."""
    return InstanceMean(dim, num_classes)
