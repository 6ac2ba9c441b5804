"""Points drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from mshisto_ray.learning.sweep.axes import Range, SearchSpace
from mshisto_ray.learning.sweep.searches import PointSearch, Tried


def build(
    *, points: Annotated[int, Field(ge=1)], seed: Annotated[int, Field(ge=0)] = 0
) -> PointSearch:
    """Draw every axis evenly, ranges evenly between their ends or in the logarithm.

    More points of the same seed begin with the same ones.

    Source: Bergstra and Bengio 2012, random search.
    """
    return _Random(points, seed)


@dataclass(frozen=True)
class _Random:
    points: int
    seed: int
    learns: bool = False

    def suggest(
        self, space: SearchSpace, number: int, tried: Sequence[Tried]
    ) -> dict[str, Any] | None:
        rng = np.random.default_rng([self.seed, number])
        shares = dict(zip(space.keys, rng.random(len(space.keys)), strict=True))
        drawn = {
            key: axis.at(shares[key])
            if isinstance(axis, Range)
            else axis[int(shares[key] * len(axis))]
            for key, axis in space.axes.items()
        }
        return space.complete(drawn)
