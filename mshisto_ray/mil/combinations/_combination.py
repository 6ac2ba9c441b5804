"""The interface of a combination of scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch


class Finer(NamedTuple):
    """Tiles [M, D] of a finer scale, parent by parent, and offsets [P + 1].

    Parent p has rows ``offsets[p]:offsets[p + 1]``, which may be none: children with
    too little tissue are absent. Offsets are int64 on the CPU.
    """

    h: torch.Tensor
    offsets: torch.Tensor


class Combined(NamedTuple):
    """One instance per coarse tile.

    ``h``: [N, width]; ``child_attention``: for each finer scale the weight of every
    tile [M], summing to one over the children of a parent; none where there is none.
    """

    h: torch.Tensor
    child_attention: tuple[torch.Tensor, ...] = ()


class Combination(Protocol):
    """A torch module; ``width``: of the instances that it returns.

    A combination's module may declare ``ONE_SCALE = True``: it takes no finer tiles.
    """

    width: int

    def __call__(self, h: torch.Tensor, finer: Sequence[Finer]) -> Combined:
        """Tiles [N, D] of the coarsest scale, and of each finer one in turn."""
        ...
