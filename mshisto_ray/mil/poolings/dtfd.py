"""Double-tier attention: over the instances of pseudo-bags, then over pseudo-bags."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from mshisto_ray.mil.poolings import _pooling
from mshisto_ray.mil.poolings._attention import AttentionPooling
from mshisto_ray.mil.ragged import segments

DEPENDS_ON_COUNT = True
# The first tier is trained on the bag's class.
NEEDS_CLASSES = True


class DoubleTier(nn.Module):
    """DTFD-MIL with aggregated feature selection.

    The instances of a bag are dealt out to ``groups`` pseudo-bags (to as many as it has
    instances, where it has fewer). The first tier is gated attention over each
    pseudo-bag: its embedding z_g, and a prediction, which is trained on the bag's
    label. The second is gated attention over the z_g. The probabilities are the
    second's; training minimises the mean of its loss and that of the first, whose
    loss is the mean over pseudo-bags. The attention of an instance is the product of
    both tiers'.

    The paper splits at random. Here the instances, in the order of their projection on
    a fixed random direction, are dealt out in turn: a split that depends neither on
    their order nor on the label and is the same at every prediction. In training it
    changes with dropout, noise and what the layers before have learned.

    Source: Zhang et al. 2022, DTFD-MIL, sections 3.2 and 3.3 (AFS). One optimiser for
    both tiers in place of two.
    """

    # Rows of the second tier are pseudo-bags, not instances or bags of the batch.
    HAS_OTHER_ROWS = True

    def __init__(self, dim: int, num_classes: int, hidden: int, groups: int):
        super().__init__()
        self.first = AttentionPooling(dim, num_classes, hidden, True)
        self.second = AttentionPooling(dim, num_classes, hidden, True)
        self.groups = groups
        direction = torch.randn(dim, generator=torch.Generator().manual_seed(0))
        self.direction: torch.Tensor
        self.register_buffer("direction", direction)

    def forward(self, h: torch.Tensor, offsets: torch.Tensor) -> _pooling.Pooled:
        """Instances [N, D] and offsets [B + 1] to ``Pooled``."""
        segments.check_bags(h, offsets)
        h = segments.widen(h)
        rows, inner, outer = self._deal(h, offsets)
        within, z = self.first.attend(h[rows], inner)
        tier = _pooling.log_probabilities(self.first.classifier(z))
        over, slide = self.second.attend(z, outer)
        weights = within * segments.spread(over, inner)
        attention = torch.zeros_like(weights).index_copy(0, rows, weights)

        def first_loss(targets: torch.Tensor) -> torch.Tensor:
            own = segments.spread(targets, outer)
            losses = tier.gather(1, own[:, None]).neg()
            return segments.segment_mean(losses, outer)[:, 0]

        return _pooling.Pooled(
            _pooling.log_probabilities(self.second.classifier(slide)),
            attention,
            auxiliary=_pooling.Auxiliary(0.5, first_loss),
        )

    def _deal(
        self, h: torch.Tensor, offsets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rows [N] in the order of pseudo-bags, and offsets of rows and pseudo-bags."""
        sizes = offsets.diff()
        with torch.autocast(h.device.type, enabled=False):
            place = (h.detach() @ self.direction.to(h.dtype))[:, None]
        ranked, _ = segments.segment_top(place, offsets, sizes)
        num = sizes.clamp(max=self.groups)
        start = segments.spread(offsets[:-1], offsets)
        group = (torch.arange(len(h)) - start) % segments.spread(num, offsets)
        outer = torch.cat([num.new_zeros(1), num.cumsum(0)])
        pseudo = segments.spread(outer[:-1], offsets) + group
        order = torch.sort(pseudo, stable=True).indices
        counts = torch.bincount(pseudo, minlength=int(outer[-1]))
        inner = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return ranked[order.to(h.device), 0], inner, outer


def build(
    dim: int,
    num_classes: int,
    *,
    hidden: Annotated[int, Field(ge=1)] = 128,
    groups: Annotated[int, Field(ge=2)] = 4,
) -> nn.Module:
    """DTFD-MIL; ``hidden``: rows of V and U of both tiers; ``groups``: pseudo-bags."""
    return DoubleTier(dim, num_classes, hidden, groups)
