"""What a search of a sweep's axes gives, and what it may learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mshisto_ray.learning.sweep.axes import SearchSpace


@dataclass(frozen=True)
class Tried:
    """A point that was trained.

    ``values``: of its axes; ``score``: on validation, higher is better; None: it
    failed or has not ended. ``pruned``: the score is of its first models alone.
    """

    values: Mapping[str, Any]
    score: float | None
    pruned: bool = False


class PointSearch(Protocol):
    """Suggests points of axes.

    ``points``: how many different ones are wanted; None: all that there are.
    ``learns``: suggestions depend on the results of earlier points.
    """

    @property
    def points(self) -> int | None:
        """Number of points."""
        ...

    @property
    def learns(self) -> bool:
        """Whether results are needed for the next suggestion."""
        ...

    def suggest(
        self, space: SearchSpace, number: int, tried: Sequence[Tried]
    ) -> dict[str, Any] | None:
        """The values of a suggestion; None: there are no more.

        It is a function of its arguments alone, so that a search that was killed goes
        on as it would have. Suggestions may repeat.

        Args:
            space: of the axes.
            number: suggestions made before.
            tried: points so far, in the order of their suggestion.
        """
        ...
