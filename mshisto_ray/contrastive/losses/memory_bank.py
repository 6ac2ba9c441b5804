"""Instance discrimination against a memory of every training tile."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from mshisto_ray.contrastive.losses._loss import (
    full_precision,
    unit_rows,
    without_autocast,
    zero_loss,
)
from mshisto_ray.training.draws import choose, uniforms

REMEMBERS = True


class MemoryBank(nn.Module):
    """Every tile is a class of its own, and its last descriptor is the class's weight.

    With v_j the remembered descriptor of tile j of n, f a tile's descriptor now (both
    of length 1) and t the temperature, the tile is tile i with
    P(i | f) = exp(v_i . f / t) / Z, Z = sum_j exp(v_j . f / t). The loss is the mean
    of -log P(i | f) over the batch (``negatives`` None), or noise-contrastive
    estimation with m tiles k drawn uniformly: h(j) = P(j | f) / (P(j | f) + m / n) and
    -log h(i) - sum_k log(1 - h(k)), Z a constant, n times the mean of exp(v_k . f / t)
    over the first batch. After the step v_i becomes momentum v_i + (1 - momentum) f,
    of length 1 again.

    Source: Wu et al. 2018, equations 2 to 8, without their proximal term; momentum and
    a constant Z as in their implementation. The m tiles are the same for all
    of a batch, where the paper draws them for each: every term keeps its mean.
    """

    memory: torch.Tensor  # [n, D]
    steps: torch.Tensor
    log_normaliser: torch.Tensor  # log Z; NaN before the first step

    def __init__(self, temperature: float, negatives: int | None, momentum: float):
        super().__init__()
        self.temperature = temperature
        self.negatives = negatives
        self.momentum = momentum
        self._seed = 0
        self.register_buffer("memory", torch.zeros(0, 0))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("log_normaliser", torch.tensor(math.nan))

    def begin(self, tiles: int, width: int, seed: int) -> None:
        """Remember a random direction for each tile."""
        self._seed = seed
        generator = torch.Generator().manual_seed(seed)
        self.memory = unit_rows(torch.randn(tiles, width, generator=generator))

    def forward(
        self,
        z: torch.Tensor,
        positive: torch.Tensor,
        negative: torch.Tensor,
        tiles: torch.Tensor,
    ) -> torch.Tensor:
        """The loss of projections [M, D] of ``tiles`` [M]; relations do not matter."""
        with without_autocast(z):
            f, own = _known(z, tiles)
            if not len(own):
                return zero_loss(z)
            memory = self.memory.to(f.dtype)
            if self.negatives is None:
                return functional.cross_entropy(f @ memory.T / self.temperature, own)
            own_score = (f * memory[own]).sum(1) / self.temperature
            noise_score = self._noise_scores(f)
            # h = 1 / (1 + exp(zero - score)): a score at which both are as likely.
            zero = self._normaliser(noise_score)
            zero = zero + math.log(self.negatives / len(memory))
            noise = functional.softplus(noise_score - zero).sum(1)
            return (functional.softplus(zero - own_score) + noise).mean()

    @torch.no_grad()
    def remember(
        self,
        z: torch.Tensor,
        positive: torch.Tensor,
        negative: torch.Tensor,
        tiles: torch.Tensor,
    ) -> None:
        """Move the batch's tiles; of a tile that is there twice the first counts."""
        f, own = _known(z, tiles)
        if self.negatives is not None and len(own):
            self.log_normaliser.copy_(self._normaliser(self._noise_scores(f)))
        # A sum over equal tiles would be rounded differently by each GPU worker.
        order = torch.argsort(own, stable=True)
        is_first = torch.ones_like(order, dtype=torch.bool)
        is_first[1:] = own[order][1:] != own[order][:-1]
        rows = order[is_first]
        kept = self.momentum * self.memory[own[rows]] + (1 - self.momentum) * f[rows]
        self.memory[own[rows]] = unit_rows(kept).to(self.memory.dtype)
        self.steps += 1

    def _noise_scores(self, f: torch.Tensor) -> torch.Tensor:
        """Scores [M, m] with tiles drawn for this step, the same on every worker."""
        assert self.negatives is not None
        num = len(self.memory)
        drawn = uniforms(self._seed, "memory", int(self.steps), self.negatives, 1)[:, 0]
        rows = torch.from_numpy(choose(drawn, np.full(len(drawn), num)))
        noise = self.memory[rows.to(self.memory.device)].to(f.dtype)
        return f @ noise.T / self.temperature

    def _normaliser(self, noise_scores: torch.Tensor) -> torch.Tensor:
        """The log of Z: what the first step estimated."""
        if not self.log_normaliser.isnan():
            return self.log_normaliser.to(noise_scores.dtype)
        scores = noise_scores.detach().flatten()
        share = math.log(len(self.memory) / len(scores))
        return torch.logsumexp(scores, 0) + share


def _known(z: torch.Tensor, tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Descriptors of length 1, and tiles, of the images that could be read."""
    known = tiles >= 0
    return unit_rows(full_precision(z[known])), tiles[known]


def build(
    *,
    temperature: Annotated[float, Field(gt=0)] = 0.07,
    negatives: Annotated[int | None, Field(ge=1)] = 4096,
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5,
) -> MemoryBank:
    """Instance discrimination with a memory bank, for ``single_tile`` pairs.

    Args:
        temperature: divides cosines.
        negatives: tiles that a step draws as noise; None: all of them, the exact
            softmax, whose time and memory grow with the tiles.
        momentum: share of a remembered descriptor that a step keeps.
    """
    return MemoryBank(temperature, negatives, momentum)
