"""The interface of a noise on embeddings."""

from __future__ import annotations

from typing import Protocol

import torch


class Noise(Protocol):
    """Disturbs standardised embeddings while a head is trained, never after.

    ``values`` [N, D] have mean 0 and standard deviation 1 on the training fold, so
    that a strength means the same for every encoder. The result has the same shape;
    its randomness comes from ``generator`` alone and is fresh at every call.
    """

    def __call__(
        self, values: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor: ...
