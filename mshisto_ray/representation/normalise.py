"""Standardisation of embeddings with the statistics of the training fold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mshisto_ray.representation.reductions import Reduction

# Rows converted to float64 at a time: memory stays flat on mapped files.
_CHUNK_BYTES = 1 << 25
# Standard deviations beyond which a row is nothing like those that were learned from:
# of n rows none can lie farther from their mean than (n - 1)^0.5 (Samuelson 1968).
FAR = 50.0
# A feature whose spread is below float32 resolution of its mean is constant.
_RESOLUTION = 1e-6


@dataclass(frozen=True)
class Moments:
    """Per set of rows: count [S], mean [S, D] and sum of squared deviations [S, D].

    Kept per slide in float64, so that the statistics of any fold are computed without
    reading an embedding again.
    """

    count: np.ndarray
    mean: np.ndarray
    scatter: np.ndarray


def moments(values: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Count, mean [D] and sum of squared deviations [D] of rows [N, D], in float64."""
    count, dim = values.shape
    step = max(1, _CHUNK_BYTES // (8 * max(dim, 1)))
    parts = []
    for start in range(0, count, step):
        block = values[start : start + step].astype(np.float64)
        with np.errstate(invalid="ignore"):  # the caller refuses what is not finite
            mean = block.mean(0)
            parts.append((len(block), mean, ((block - mean) ** 2).sum(0)))
    if not parts:
        return 0, np.zeros(dim), np.zeros(dim)
    stacked = Moments(*(np.stack(part) for part in zip(*parts, strict=True)))
    return _merge(stacked)


def _merge(parts: Moments) -> tuple[int, np.ndarray, np.ndarray]:
    """The moments of the union of all sets.

    Source: Chan, Golub, LeVeque 1983, updating formulae for sample variances.
    """
    total = int(parts.count.sum())
    weight = parts.count[:, None]
    mean = (weight * parts.mean).sum(0) / total
    with np.errstate(invalid="ignore"):
        shift = weight * (parts.mean - mean) ** 2
    return total, mean, (parts.scatter + shift).sum(0)


@dataclass(frozen=True)
class Reduced:
    """A reduction with what it found in the training fold."""

    reduction: Reduction
    state: dict[str, torch.Tensor]

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Standardised rows [N, D] to [N, width]."""
        return self.reduction.apply(self.state, values)

    def to(self, device: torch.device) -> Reduced:
        """A copy on a device."""
        moved = {name: value.to(device) for name, value in self.state.items()}
        return Reduced(self.reduction, moved)


@dataclass(frozen=True)
class Standardisation:
    """Maps each feature to (h - mean) / std; ``mean``, ``std``: float32 [D].

    ``finer``: those of the finer scales, if bags hold several scales; ``reduced``: the
    reduction of standardised rows, None for none; ``clip``: values are cut off at so
    many standard deviations, None: at none.
    """

    mean: torch.Tensor
    std: torch.Tensor
    finer: tuple[Standardisation, ...] = ()
    reduced: Reduced | None = None
    clip: float | None = None

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Standardise rows [N, D] of any floating type, and reduce; returns float32."""
        # In place: a new array of this size costs more than the arithmetic.
        found = (values.float() - self.mean).div_(self.std)
        if self.clip is not None:
            found.clamp_(-self.clip, self.clip)
        return found if self.reduced is None else self.reduced(found)

    def to(self, device: torch.device) -> Standardisation:
        """A copy on a device."""
        finer = tuple(part.to(device) for part in self.finer)
        reduced = None if self.reduced is None else self.reduced.to(device)
        mean, std = self.mean.to(device), self.std.to(device)
        return Standardisation(mean, std, finer, reduced, self.clip)


def fit(parts: Moments, clip: float | None = None) -> Standardisation:
    """Standardisation over all rows of the given sets, each row counted once.

    The spread is the population standard deviation. A constant feature keeps a
    spread of 1 and becomes 0.

    Args:
        parts: at least one row.
        clip: see ``Standardisation``.
    """
    assert parts.count.sum() > 0, "no rows to take statistics of"
    total, mean, scatter = _merge(parts)
    std = np.sqrt(scatter / total)
    std[std <= _RESOLUTION * np.abs(mean)] = 1.0
    return Standardisation(
        torch.from_numpy(mean.astype(np.float32)),
        torch.from_numpy(std.astype(np.float32)),
        clip=clip,
    )
