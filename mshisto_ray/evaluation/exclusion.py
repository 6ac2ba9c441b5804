"""Tiles excluded from a query's results because they share too much with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_PAIRS = 1 << 22  # distances computed at once


@dataclass(frozen=True)
class Exclusion:
    """The rows excluded for a query: those of its own group.

    ``group``: [N], not decreasing, so that every group is a range of rows: the slide,
    patient or site of each row, or the row itself. ``place``: tile centres in
    micrometres [N, 2]; with them only rows of the group within ``radius_um`` of the
    query are excluded. A query never finds itself.
    """

    group: np.ndarray
    place: np.ndarray | None = None
    radius_um: float = 0.0

    def __post_init__(self) -> None:
        assert (np.diff(self.group) >= 0).all(), "rows are sorted by group"

    def is_excluded(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Whether rows are excluded for queries; index arrays broadcast to bool."""
        same = self.group[queries] == self.group[rows]
        return same if self.place is None else same & self.is_near(queries, rows)

    def is_near(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Whether centres lie within the radius; index arrays broadcast to bool."""
        assert self.place is not None
        gap = self.place[queries] - self.place[rows]
        return gap[..., 0] ** 2 + gap[..., 1] ** 2 <= self.radius_um**2

    def allowed_counts(
        self, queries: np.ndarray, labels: np.ndarray, num_labels: int
    ) -> np.ndarray:
        """The number of rows of each label that each query may find, [Q, num_labels].

        Args:
            queries: rows used as queries, sorted, [Q].
            labels: label of every row, 0 to num_labels - 1, [N].
            num_labels: columns of the result.
        """
        counts = np.tile(np.bincount(labels, minlength=num_labels), (len(queries), 1))
        groups = Groups(self, queries)
        for part, low, high in groups.within(slice(0, len(labels))):
            one_hot = np.eye(num_labels)[labels[low:high]]
            step = max(1, _PAIRS // (high - low))
            for start in range(part.start, part.stop, step):
                few = slice(start, min(start + step, part.stop))
                near = groups.near(few, low, high)
                left_out = one_hot.sum(0) if near is None else near @ one_hot
                counts[few] -= left_out.astype(np.int64)
        return counts


class Groups:
    """Sorted queries [Q] and, group by group, the rows excluded for them."""

    def __init__(self, exclusion: Exclusion, queries: np.ndarray):
        self._exclusion, self._queries = exclusion, queries
        keys = exclusion.group[queries]
        self._starts = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))
        self._stops = np.append(self._starts[1:], len(queries))
        first = keys[self._starts]
        self._low = np.searchsorted(exclusion.group, first, side="left")
        self._high = np.searchsorted(exclusion.group, first, side="right")

    def within(self, block: slice) -> Iterator[tuple[slice, int, int]]:
        """Yield each group's queries and its row range (first, stop) in a block."""
        touched = (self._low < block.stop) & (self._high > block.start)
        for group in np.flatnonzero(touched):
            first = max(int(self._low[group]), block.start)
            last = min(int(self._high[group]), block.stop)
            yield slice(self._starts[group], self._stops[group]), first, last

    def near(self, part: slice, first: int, last: int) -> np.ndarray | None:
        """Whether rows [first, last) are excluded for queries, bool; None: all are."""
        if self._exclusion.place is None:
            return None
        queries = self._queries[part, None]
        return self._exclusion.is_near(queries, np.arange(first, last)[None])
