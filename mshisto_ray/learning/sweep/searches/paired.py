"""The axes' values side by side: the first of each, the second of each, and so on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mshisto_ray.config import InputError
from mshisto_ray.learning.sweep.axes import SearchSpace
from mshisto_ray.learning.sweep.searches import PointSearch, Tried


def build() -> PointSearch:
    """Take as many points as each axis has values, which are lists of one length."""
    return _Paired()


class _Paired:
    points, learns = None, False

    def suggest(
        self, space: SearchSpace, number: int, tried: Sequence[Tried]
    ) -> dict[str, Any] | None:
        lists = {k: axis for k, axis in space.axes.items() if isinstance(axis, tuple)}
        sizes = {key: len(values) for key, values in lists.items()}
        if len(lists) < len(space.axes) or len(set(sizes.values())) != 1:
            shown = ", ".join(f"{k} has {sizes.get(k, 'a range')}" for k in space.axes)
            raise InputError(
                "search: paired takes the values of all axes side by side, so each is "
                f"a list of as many: {shown}"
            )
        if number >= min(sizes.values()):
            return None
        return space.complete({key: values[number] for key, values in lists.items()})
