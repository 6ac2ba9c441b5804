"""Instance classifier, noisy-or over the bag."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from mshisto_ray.mil.poolings import _log, _pooling
from mshisto_ray.mil.ragged import segments

DEPENDS_ON_COUNT = True
NEEDS_CLASSES = True
# Instances of p = 0.01 from which P is above 0.99.
_SATURATES = 500


class NoisyOr(nn.Module):
    """P = 1 - prod_k (1 - p_k), with p_k = sigm(f(h_k)).

    In logarithms: log(1 - P) = -t with t = sum_k softplus(f(h_k)), and log P =
    log(1 - exp(-t)), exact where all p_k underflow or one is 1. A repeated instance
    counts as more evidence, so P saturates in large bags (5000 instances of p = 0.001
    give P = 0.993); it suits bags of tens of instances, not slides.

    More than two classes: one noisy-or per class (p_k a sigmoid), then a softmax of
    their log odds; an instance's scores are the softmax of its logits.

    Source: Maron, Lozano-Perez 1998, a framework for multiple-instance learning
    (noisy-or); Ilse et al. 2018 name it among the operators.
    """

    def __init__(self, dim: int, num_classes: int):
        super().__init__()
        self.classifier = nn.Linear(dim, _pooling.num_logits(num_classes))

    def forward(self, h: torch.Tensor, offsets: torch.Tensor) -> _pooling.Pooled:
        """Instances [N, D] and offsets [B + 1] to ``Pooled``."""
        segments.check_bags(h, offsets)
        logits = segments.widen(self.classifier(h))
        t = segments.segment_sum(functional.softplus(logits), offsets)
        log_t = segments.segment_logsumexp(_log.log_softplus(logits), offsets)
        log_odds = _log.log_one_minus_exp(t, log_t) + t
        bag = _pooling.log_probabilities(log_odds)
        instances = _pooling.log_probabilities(logits).exp()
        return _pooling.Pooled(bag, instance_probabilities=instances)


def build(dim: int, num_classes: int) -> nn.Module:
    """Instance classifier, noisy-or over the bag; saturates in bags of thousands."""
    return NoisyOr(dim, num_classes)


def notes(sizes: np.ndarray) -> list[str]:
    """A warning where P saturates in bags of these sizes."""
    median = float(np.median(sizes[sizes > 0])) if sizes.any() else 0.0
    if median <= _SATURATES:
        return []
    return [
        f"pooling noisy_or saturates: for bags of {median:g} instances (the median "
        "here) it predicts nearly always positive; use noisy_and, top_k or attention"
    ]
