"""What a noise may know of the embeddings that a head is trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch


@dataclass(frozen=True)
class Space:
    """The embeddings of one training fold as a head takes them: standardised, reduced.

    Nothing in it comes from a tile outside the training fold.

    Attributes:
        width: columns D of what the head takes.
        views: columns of each view, which add up to D, in their recorded order; after a
            reduction the views are mixed, and there is one.
        draw: returns training rows [n, D], at most as many as the fold's preparation
            draws (see ``representation.preparation``).
        project: maps differences of raw embeddings [M, raw D] to [M, D].
        held_out: slides of the data set that are not in the training fold.
    """

    width: int
    views: tuple[int, ...]
    draw: Callable[[], torch.Tensor]
    project: Callable[[torch.Tensor], torch.Tensor]
    held_out: frozenset[str] = field(default=frozenset())

    @classmethod
    def of(cls, rows: torch.Tensor, views: tuple[int, ...] | None = None) -> Space:
        """The space of rows [n, D] that need no standardisation or reduction."""
        width = rows.shape[1]
        return cls(width, views or (width,), lambda: rows, lambda raw: raw)

    @cached_property
    def rows(self) -> torch.Tensor:
        """The drawn training rows [n, D], float32 on the CPU."""
        return self.draw().float().cpu()

    @cached_property
    def energy(self) -> float:
        """Mean squared norm of a training row; D where no feature is constant."""
        return float(self.rows.double().square().sum(1).mean())
