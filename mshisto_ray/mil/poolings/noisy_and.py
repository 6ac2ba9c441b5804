"""Instance classifier, noisy-and over the bag."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from mshisto_ray.mil.poolings import _log, _pooling
from mshisto_ray.mil.ragged import segments

INSTANCES_APART = True
NEEDS_CLASSES = True


class NoisyAnd(nn.Module):
    """A bag is positive once enough of its instances are: P rises at mean p = b.

    P = (s(a (m - b)) - s(-a b)) / (s(a (1 - b)) - s(-a b)), with s the sigmoid, m =
    (1 / K) sum_k p_k, a fixed and b in (0, 1) learned, 0.5 at first. As s(u) - s(v) =
    s(u) s(-v) (1 - exp(v - u)), log P = log s(a (m - b)) - log s(a (1 - b)) +
    log(1 - exp(-a m)) - log(1 - exp(-a)), and log(1 - P) likewise with 1 - m.

    More than two classes: p_k is a sigmoid for each class, with a b of its own, and the
    log odds of the P_c go through a softmax, as do an instance's logits for its scores.

    Source: Kraus, Ba, Frey 2016, equation of the noisy-and pooling function.
    """

    def __init__(self, dim: int, num_classes: int, slope: float):
        super().__init__()
        outputs = _pooling.num_logits(num_classes)
        self.classifier = nn.Linear(dim, outputs)
        self.threshold = nn.Parameter(torch.zeros(outputs))  # b = sigm(threshold)
        self.slope = slope

    def forward(self, h: torch.Tensor, offsets: torch.Tensor) -> _pooling.Pooled:
        """Instances [N, D] and offsets [B + 1] to ``Pooled``."""
        segments.check_bags(h, offsets)
        logits = segments.widen(self.classifier(h))
        positive = self._log_share(logits, self.threshold, offsets)
        negative = self._log_share(-logits, -self.threshold, offsets)
        bag = _pooling.log_probabilities(positive - negative)
        instances = _pooling.log_probabilities(logits).exp()
        return _pooling.Pooled(bag, instance_probabilities=instances)

    def _log_share(
        self, logits: torch.Tensor, threshold: torch.Tensor, offsets: torch.Tensor
    ) -> torch.Tensor:
        """Log P of each bag [B, 1 or C] from the logits of p_k."""
        a, b = self.slope, threshold.sigmoid()
        log_p = nn.functional.logsigmoid(logits)
        log_sizes = offsets.diff().to(logits).log()[:, None]
        log_m = segments.segment_logsumexp(log_p, offsets) - log_sizes
        m = log_m.exp()
        rise = nn.functional.logsigmoid(a * (m - b))
        full = nn.functional.logsigmoid(a * (1 - b)) + math.log(-math.expm1(-a))
        return rise + _log.log_one_minus_exp(a * m, math.log(a) + log_m) - full


def build(
    dim: int, num_classes: int, *, slope: Annotated[float, Field(gt=0)] = 10.0
) -> nn.Module:
    """Noisy-and; ``slope``: a, how sharply P rises (the paper's 10)."""
    return NoisyAnd(dim, num_classes, slope)
