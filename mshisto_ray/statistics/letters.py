"""Letters that say which of many values cannot be told apart."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def letters(different: np.ndarray) -> list[str]:
    """A text of letters for each of M values: who shares one cannot be told apart.

    Insert and absorb (Piepho 2004): begin with one group of all; split each group at
    every pair that differs; drop groups within others.

    Args:
        different: whether two values differ, symmetric, bool [M, M].

    Returns:
        M texts, such as ``["a", "ab", "b"]``; ``a`` is of the first value.
    """
    num = len(different)
    groups = {frozenset(range(num))}
    for one in range(num):
        for two in range(one + 1, num):
            if different[one, two]:
                split = [g for g in groups if one in g and two in g]
                groups = groups.difference(split)
                groups |= {g - {member} for g in split for member in (one, two)}
                groups = _largest(groups)
    ordered = sorted(groups, key=sorted)
    return [
        "".join(_letter(i) for i, group in enumerate(ordered) if value in group)
        for value in range(num)
    ]


def _largest(groups: Iterable[frozenset[int]]) -> set[frozenset[int]]:
    groups = set(groups)
    return {g for g in groups if not any(g < other for other in groups)}


def _letter(index: int) -> str:
    """``a`` to ``z``, then ``a1``, ``b1``, ..."""
    cycle = index // 26
    return chr(ord("a") + index % 26) + (str(cycle) if cycle else "")
