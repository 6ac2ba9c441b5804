"""Attention pooling, gated or not, with one branch, several, or one per class."""

from __future__ import annotations

import torch
from torch import nn

from mshisto_ray.mil.poolings import _pooling
from mshisto_ray.mil.ragged import segments


class AttentionPooling(nn.Module):
    """P = sigm(u . z + b), with z = sum_k a_k h_k, a = softmax_k(w . e(h_k)).

    e(h) = tanh(V h), or gated tanh(V h) * sigm(U h), the product elementwise. One w
    for all instances: the paper's slides index it by instance, which would leave the
    operator undefined for bags of other sizes. V, U and w have biases, as in the
    authors' code (that of w cancels in the softmax).

    More than two classes: one z, and a softmax of one linear map per class. With
    ``per_class`` every class c has a branch, w_c and z_c = sum_k a_kc h_k, and its
    logit u_c . z_c + b_c (two classes: two logits). As weights sum to one, that is
    sum_k a_kc (u_c . h_k + b_c), so that no z_c is ever made.

    With ``heads`` above 1 every head i has a w_i, and z is the z_i of all, side by
    side; ``attention`` is the heads' mean.

    Source: Ilse et al. 2018, attention-based MIL pooling, and with gating mechanism,
    and several branches side by side in the authors' code; a branch per class: Lu et
    al. 2021 (CLAM), multi-branch attention.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        hidden: int,
        gated: bool,
        per_class: bool = False,
        heads: int = 1,
    ):
        super().__init__()
        self.tanh = nn.Linear(dim, hidden)
        self.gate = nn.Linear(dim, hidden) if gated else None
        self.score = nn.Linear(hidden, num_classes if per_class else heads)
        outputs = num_classes if per_class else _pooling.num_logits(num_classes)
        self.classifier = nn.Linear(heads * dim, outputs)
        self.per_class = per_class

    def forward(self, h: torch.Tensor, offsets: torch.Tensor) -> _pooling.Pooled:
        """Instances [N, D] and offsets [B + 1] to ``Pooled``."""
        segments.check_bags(h, offsets)
        if not self.per_class:
            attention, z = self.attend(h, offsets)
            logits = self.classifier(z)
            log = _pooling.log_probabilities(logits)
            return _pooling.Pooled(log, attention, outputs=logits)
        weights = segments.segment_softmax(self.scores(h), offsets)
        parts = self.classifier(h)
        logits = segments.segment_sum(weights * parts, offsets)
        log = _pooling.log_probabilities(logits)
        attention = weights.mean(1)
        return _pooling.Pooled(log, attention, class_attention=weights, outputs=logits)

    def attend(
        self, h: torch.Tensor, offsets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attention [N], the mean of the heads', and z [B, heads D]."""
        weights = segments.segment_softmax(self.scores(h), offsets)
        if weights.shape[1] > 1:
            z = segments.segment_weighted_sum(weights, h, offsets)
            return weights.mean(1), z.flatten(1)
        attention = weights.squeeze(1)
        return attention, segments.segment_weighted_sum(attention, h, offsets)

    def scores(self, h: torch.Tensor) -> torch.Tensor:
        """Attention scores before the softmax, [N, branches]."""
        hidden = torch.tanh(self.tanh(h))
        if self.gate is not None:
            hidden = hidden * torch.sigmoid(self.gate(h))
        return self.score(hidden)
