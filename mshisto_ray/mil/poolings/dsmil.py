"""Two streams: the instance of highest score, and attention by similarity to it."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from mshisto_ray.mil.poolings import _pooling
from mshisto_ray.mil.ragged import segments

INSTANCES_APART = True
NEEDS_CLASSES = True


class DualStream(nn.Module):
    """DSMIL: instance max, and attention whose query is the critical instance.

    First stream: x_k = c(h_k), and m = argmax_k x_k, for each class. Second: a_k =
    softmax_k(q(h_k) . q(h_m) / sqrt(L)), with q(h) = tanh(W2 relu(W1 h)) of width L,
    z = sum_k a_k v(h_k), with v(h) = relu(W h) or h itself, and a linear map of the z
    of all classes. The probabilities are those of the second stream, and training
    minimises 0.5 of each stream's loss.

    Two classes: one logit and one critical instance, as everywhere here. Of instances
    that score exactly the same the first is the critical one: the one case in which
    their order matters.

    Source: Li, Li, Eliceiri 2021, dual-stream MIL, equations 3 to 7. The released
    code scales by sqrt(L), the paper does not.
    """

    def __init__(self, dim: int, num_classes: int, hidden: int, project: bool):
        super().__init__()
        outputs = _pooling.num_logits(num_classes)
        self.instance = nn.Linear(dim, outputs)
        self.query = nn.Sequential(
            nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.Tanh()
        )
        self.value = (
            nn.Sequential(nn.Linear(dim, dim), nn.ReLU()) if project else nn.Identity()
        )
        self.classifier = nn.Linear(outputs * dim, outputs)

    def forward(self, h: torch.Tensor, offsets: torch.Tensor) -> _pooling.Pooled:
        """Instances [N, D] and offsets [B + 1] to ``Pooled``."""
        segments.check_bags(h, offsets)
        logits = segments.widen(self.instance(h))
        critical, _ = segments.segment_top(
            logits, offsets, torch.ones_like(offsets[1:])
        )
        query = segments.widen(self.query(h))
        chosen = segments.spread(query[critical], offsets)  # [N, C, L]
        scores = (query[:, None] * chosen).sum(-1) / math.sqrt(query.shape[1])
        weights = segments.segment_softmax(scores, offsets)
        z = segments.segment_weighted_sum(weights, self.value(h), offsets)
        bag = _pooling.log_probabilities(self.classifier(z.flatten(1)))
        highest = _pooling.log_probabilities(logits.gather(0, critical))

        def instance_loss(targets: torch.Tensor) -> torch.Tensor:
            return functional.nll_loss(highest, targets, reduction="none")

        return _pooling.Pooled(
            bag,
            attention=weights.mean(1),
            instance_probabilities=_pooling.log_probabilities(logits).exp(),
            class_attention=weights if weights.shape[1] > 1 else None,
            auxiliary=_pooling.Auxiliary(0.5, instance_loss),
        )


def build(
    dim: int,
    num_classes: int,
    *,
    hidden: Annotated[int, Field(ge=1)] = 128,
    project: bool = False,
) -> nn.Module:
    """DSMIL; ``hidden``: width of queries; ``project``: values through a ReLU layer."""
    return DualStream(dim, num_classes, hidden, project)
