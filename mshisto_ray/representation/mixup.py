"""Mixup: rows of a batch and their targets, mixed in pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Mix:
    """How a batch is mixed: ``share`` of each row, the rest of its ``partner`` [N]."""

    share: float
    partner: torch.Tensor

    def to(self, device: torch.device) -> Mix:
        """The same with the partners on a device."""
        return Mix(self.share, self.partner.to(device))

    def values(self, h: torch.Tensor) -> torch.Tensor:
        """Rows [N, D] mixed."""
        return self.share * h + (1 - self.share) * h[self.partner]

    def loss(
        self, of: Callable[[torch.Tensor], torch.Tensor], targets: torch.Tensor
    ) -> torch.Tensor:
        """The loss of the mixed rows: of both targets, by their shares.

        Of cross-entropy this is the loss for the mixed (soft) target.

        Args:
            of: the loss for targets.
            targets: class indices [N].
        """
        own, other = of(targets), of(targets[self.partner])
        return self.share * own + (1 - self.share) * other


def draw_mix(alpha: float, num: int, rng: np.random.Generator) -> Mix:
    """One share of Beta(alpha, alpha) for a batch of ``num``, and a partner of each.

    Source: Zhang et al. 2018, mixup, as its authors draw it.
    """
    return Mix(float(rng.beta(alpha, alpha)), torch.from_numpy(rng.permutation(num)))


def mix_bags(
    h: torch.Tensor, offsets: torch.Tensor, mix: Mix, generator: torch.Generator
) -> torch.Tensor:
    """Instances [N, D] of B bags, each mixed with a random one of its bag's partner.

    Bags keep their sizes; a partner's instances are drawn with replacement.

    Source: after Gadermayr et al. 2022, MixUp-MIL, inter-slide mixing.

    Args:
        h: instances, bag by bag.
        offsets: int64 [B + 1].
        mix: of the B bags.
        generator: of h's device.
    """
    starts, sizes = offsets[:-1].to(h.device), offsets.diff().to(h.device)
    partner = mix.partner.repeat_interleave(sizes)
    drawn = torch.rand(len(h), generator=generator, device=h.device, dtype=torch.double)
    rows = starts[partner] + (drawn * sizes[partner]).long()
    return mix.share * h + (1 - mix.share) * h[rows]
