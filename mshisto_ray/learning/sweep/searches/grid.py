"""Every combination of the axes' values."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from mshisto_ray.learning.sweep.axes import SearchSpace, extremes
from mshisto_ray.learning.sweep.searches import PointSearch, Tried


def build() -> PointSearch:
    """Take every combination, the last axis varying fastest."""
    return _Grid()


class _Grid:
    points, learns = None, False

    def suggest(
        self, space: SearchSpace, number: int, tried: Sequence[Tried]
    ) -> dict[str, Any] | None:
        found = next(itertools.islice(extremes(space.axes), number, None), None)
        return None if found is None else space.complete(found)
