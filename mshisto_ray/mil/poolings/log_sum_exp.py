"""Instance classifier, log-sum-exp of logits over the bag."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from mshisto_ray.mil.poolings import _pooling
from mshisto_ray.mil.ragged import segments


class LogSumExp(nn.Module):
    """P = sigm((1 / r) log((1 / K) sum_k exp(r x_k))), x_k the logit of instance k.

    Between the mean of logits (r to 0) and their maximum (r to infinity). The mean
    inside the logarithm makes it independent of the bag's size. It pools logits, so
    that the result is a logit; for probabilities it would stay close to their mean.
    More than two classes: each class's logits, then a softmax.

    Source: Ramon, De Raedt 2000, multi instance neural networks; Pinheiro, Collobert
    2015, equation of the LSE aggregation.
    """

    def __init__(self, dim: int, num_classes: int, r: float):
        super().__init__()
        self.classifier = nn.Linear(dim, _pooling.num_logits(num_classes))
        self.r = r

    def forward(self, h: torch.Tensor, offsets: torch.Tensor) -> _pooling.Pooled:
        """Instances [N, D] and offsets [B + 1] to ``Pooled``."""
        segments.check_bags(h, offsets)
        logits = segments.widen(self.classifier(h))
        total = segments.segment_logsumexp(self.r * logits, offsets)
        log_sizes = offsets.diff().to(total).log()[:, None]
        pooled = (total - log_sizes) / self.r
        bag = _pooling.log_probabilities(pooled)
        instances = _pooling.log_probabilities(logits).exp()
        return _pooling.Pooled(bag, instance_probabilities=instances, outputs=pooled)


def build(
    dim: int, num_classes: int, *, r: Annotated[float, Field(gt=0, le=100)] = 1.0
) -> nn.Module:
    """Log-sum-exp of logits; ``r``: towards 0 the mean, towards infinity the max."""
    return LogSumExp(dim, num_classes, r)
