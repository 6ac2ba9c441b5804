"""Instance classifier, generalised mean of probabilities over the bag."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from mshisto_ray.mil.poolings import _log, _pooling
from mshisto_ray.mil.ragged import segments

NEEDS_CLASSES = True


class GeneralisedMean(nn.Module):
    """P = ((1 / K) sum_k p_k^r)^(1 / r), with p_k = sigm(f(h_k)).

    The mean of probabilities at r = 1, their maximum as r grows. In logarithms:
    log P = (logsumexp_k(r log p_k) - log K) / r; 1 - P, where P rounds to 1, comes
    from M = (1 / K) sum_k (1 - p_k^r) by P = (1 - M)^(1 / r).

    More than two classes: one mean per class (p_k a sigmoid), then a softmax of their
    log odds; an instance's scores are the softmax of its logits.

    Source: Viola, Platt, Zhang 2005, multiple instance boosting (generalised mean).
    """

    def __init__(self, dim: int, num_classes: int, r: float):
        super().__init__()
        self.classifier = nn.Linear(dim, _pooling.num_logits(num_classes))
        self.r = r

    def forward(self, h: torch.Tensor, offsets: torch.Tensor) -> _pooling.Pooled:
        """Instances [N, D] and offsets [B + 1] to ``Pooled``."""
        segments.check_bags(h, offsets)
        logits = segments.widen(self.classifier(h))
        bag = _pooling.log_probabilities(self._log_odds(logits, offsets))
        instances = _pooling.log_probabilities(logits).exp()
        return _pooling.Pooled(bag, instance_probabilities=instances)

    def _log_odds(self, logits: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """Log P - log(1 - P) of each bag, [B, 1 or C]."""
        r = self.r
        s = nn.functional.softplus(-logits)  # -log p_k
        log_sizes = offsets.diff().to(logits).log()[:, None]
        total = segments.segment_logsumexp(-r * s, offsets)
        log_p = (total - log_sizes) / r
        # log(1 - p_k^r), and log M
        missing = _log.log_one_minus_exp(
            r * s, math.log(r) + _log.log_softplus(-logits)
        )
        log_m = segments.segment_logsumexp(missing, offsets) - log_sizes
        m = log_m.exp().clamp(max=0.5)
        # -log P = -log(1 - M) / r, which is M / r and more where M is small.
        small = m < 1e-3
        t = torch.where(small, -torch.log1p(-m) / r, -log_p)
        series = log_m - math.log(r) + m / 2 + 5 * m**2 / 24
        log_t = torch.where(small, series, t.masked_fill(small, 1.0).log())
        return log_p - _log.log_one_minus_exp(t, log_t)


def build(
    dim: int, num_classes: int, *, r: Annotated[float, Field(gt=0, le=100)] = 4.0
) -> nn.Module:
    """Generalised mean of probabilities; ``r``: 1 their mean, towards infinity max."""
    return GeneralisedMean(dim, num_classes, r)
