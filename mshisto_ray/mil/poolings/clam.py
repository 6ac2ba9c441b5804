"""Gated attention with a clustering loss on the most and least attended instances."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from mshisto_ray.mil.poolings import _pooling
from mshisto_ray.mil.poolings._attention import AttentionPooling
from mshisto_ray.mil.ragged import segments

INSTANCES_APART = True
NEEDS_CLASSES = True


class ClusteringAttention(nn.Module):
    """CLAM: gated attention; attention's extremes are pseudo-labels of instances.

    Each class has a linear map of instances to (out, in). For the bag's class, the
    ``num`` instances of highest attention are labelled in and the ``num`` of lowest
    out; with ``subtyping``, those of highest attention are labelled out of every
    other class, and the loss is the mean over classes. Training minimises
    ``bag_weight`` of the bag's loss and 1 - ``bag_weight`` of this one. A bag of
    fewer than 2 ``num`` instances gives its upper half (rounded up) and its lower
    half, so that no instance has both labels. Among equal attention the order of
    instances decides. The maps are trained on pseudo-labels of a few instances, each
    class by itself, so they are not used as instance probabilities.

    Source: Lu et al. 2021 (CLAM), methods, instance-level clustering. Cross-entropy
    in place of the smooth SVM loss, which the authors' code offers too. The labels
    come from attention without a gradient, as there.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        hidden: int,
        per_class: bool,
        num: int,
        bag_weight: float,
        subtyping: bool,
    ):
        super().__init__()
        self.pooling = AttentionPooling(dim, num_classes, hidden, True, per_class)
        self.clusters = nn.Linear(dim, 2 * num_classes)
        self.num_classes, self.num = num_classes, num
        self.bag_weight, self.subtyping = bag_weight, subtyping

    def forward(self, h: torch.Tensor, offsets: torch.Tensor) -> _pooling.Pooled:
        """Instances [N, D] and offsets [B + 1] to ``Pooled``."""
        out = self.pooling(h, offsets)
        logits = segments.widen(self.clusters(h)).unflatten(1, (self.num_classes, 2))
        attention = out.class_attention
        if attention is None:
            attention = out.attention[:, None].expand(-1, self.num_classes)

        def cluster_loss(targets: torch.Tensor) -> torch.Tensor:
            return self._cluster_loss(logits, attention, offsets, targets)

        return _pooling.Pooled(
            out.log_probabilities,
            out.attention,
            class_attention=out.class_attention,
            auxiliary=_pooling.Auxiliary(1 - self.bag_weight, cluster_loss),
        )

    def _cluster_loss(
        self,
        logits: torch.Tensor,
        attention: torch.Tensor,
        offsets: torch.Tensor,
        targets: torch.Tensor,
    ) -> torch.Tensor:
        """Loss of each bag [B]; logits [N, C, 2], attention [N, C]."""
        sizes = offsets.diff()
        upper = ((sizes + 1) // 2).clamp(max=self.num)
        lower = (sizes // 2).clamp(max=self.num)
        # Both ends of one order, so that equal attention gives no instance two labels.
        ranked, _ = segments.segment_top(attention, offsets, sizes)
        high, high_ends = _runs(ranked, offsets[:-1], upper)
        low, low_ends = _runs(ranked, offsets[1:] - lower, lower)
        losses = functional.log_softmax(logits, -1).neg()  # of (out, in)
        inside = _sums(losses[..., 1].gather(0, high), high_ends)
        outside = _sums(losses[..., 0].gather(0, low), low_ends)
        each = (inside + outside) / (upper + lower).to(losses)[:, None]
        own = each.gather(1, targets[:, None])[:, 0]
        if not self.subtyping:
            return own
        wrong = _sums(losses[..., 0].gather(0, high), high_ends)
        wrong = wrong / upper.to(losses)[:, None]
        others = wrong.sum(1) - wrong.gather(1, targets[:, None])[:, 0]
        return (own + others) / self.num_classes


def _runs(
    ranked: torch.Tensor, starts: torch.Tensor, counts: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """``counts`` [B] of the rows [N, C] from ``starts`` [B] on, and where they end."""
    ends = torch.cat([starts.new_zeros(1), counts.cumsum(0)])
    shift = (starts - ends[:-1]).repeat_interleave(counts)
    rows = torch.arange(int(ends[-1])) + shift
    return ranked[rows.to(ranked.device)], ends


def _sums(values: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Sums over runs of rows, of which some may be empty: [M, C] to [B, C]."""
    bag = torch.arange(len(ends) - 1).repeat_interleave(ends.diff())
    total = values.new_zeros(len(ends) - 1, values.shape[1])
    return total.index_add(0, bag.to(values.device), values)


def build(
    dim: int,
    num_classes: int,
    *,
    hidden: Annotated[int, Field(ge=1)] = 256,
    per_class: bool = False,
    num: Annotated[int, Field(ge=1)] = 8,
    bag_weight: Annotated[float, Field(gt=0, le=1)] = 0.7,
    subtyping: bool = False,
) -> nn.Module:
    """CLAM; ``per_class``: one attention per class (CLAM-MB), else one (CLAM-SB)."""
    return ClusteringAttention(
        dim, num_classes, hidden, per_class, num, bag_weight, subtyping
    )
