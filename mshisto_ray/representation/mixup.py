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
