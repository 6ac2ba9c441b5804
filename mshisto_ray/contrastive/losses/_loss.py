"""The interface of a contrastive loss, and the arithmetic that all losses share."""

from __future__ import annotations

from typing import Protocol

import torch

# Below this length a vector has no direction; the clamp keeps the gradient bounded.
_SHORTEST = 1e-6


class ContrastiveLoss(Protocol):
    """Projections [M, D] and two relations bool [M, M] to a scalar.

    ``positive[i, j]``: i and j should be alike; ``negative[i, j]``: they should not;
    neither: the pair is ignored. Both are symmetric, disjoint and False on the
    diagonal. The loss is at least float32 whatever the autocast, its gradient is
    finite for every finite input, and without any related pair it is 0.

    A loss may also have ``monitors(z, positive, negative) -> dict[str, float]``, of
    arrays: measures of a batch that only this loss defines.

    A loss whose module says ``REMEMBERS = True`` beside ``build`` keeps something of
    every training tile, for pairs that are ``SINGLE``. It has ``begin(tiles, width,
    seed)``, of what is trained; takes as a fourth argument the number of each image's
    tile, int64 [M], -1 where it could not be read; and ``remember``, of the same four,
    is called after each step that was taken. What it keeps is in its buffers, is the
    same on every worker, and is saved and restored with the weights.
    """

    def __call__(
        self, z: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
    ) -> torch.Tensor: ...


def full_precision(z: torch.Tensor) -> torch.Tensor:
    """``z`` as float32, or unchanged if it is float64."""
    return z if z.dtype == torch.float64 else z.float()


def without_autocast(z: torch.Tensor) -> torch.autocast:
    """A context in which products of full-precision tensors stay full precision."""
    return torch.autocast(z.device.type, enabled=False)


def unit_rows(z: torch.Tensor) -> torch.Tensor:
    """Rows [M, D] divided by their length; a zero row stays zero."""
    return z / torch.linalg.vector_norm(z, dim=1, keepdim=True).clamp(min=_SHORTEST)


def zero_loss(z: torch.Tensor) -> torch.Tensor:
    """A loss of 0 that still has a (zero) gradient."""
    return (z * 0).sum()


def log_sum_exp(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """log(sum(exp)) of each row's masked values, [M, M] to [M].

    A row without masked values gives a very negative number, whose gradient is zero.
    """
    lowest = torch.finfo(values.dtype).min / 4
    return torch.logsumexp(values.masked_fill(~mask, lowest), dim=1)
