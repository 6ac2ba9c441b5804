"""Rows with their truth, and whose they are: what folds, redraws and sizes are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mshisto_ray.learning.targets import Target


@dataclass(frozen=True)
class LabelledRows:
    """N rows: bags, or tiles.

    ``kind``: the target; ``targets``: its truth, [N, ...]; ``classes``: the names that
    it resolves; ``patients``, ``owners``: number of the patient, and of what stays
    together in folds, of each row, int64 [N], in the order of their names; ``usable``:
    whether a row can be trained on, bool [N].
    """

    kind: Target
    targets: np.ndarray
    classes: tuple[str, ...]
    patients: np.ndarray
    owners: np.ndarray
    usable: np.ndarray


def numbered(names: Sequence[str | None]) -> np.ndarray:
    """The place of each of N names among those that occur, sorted, int64 [N]."""
    return np.unique(np.array(names, dtype=str), return_inverse=True)[1]
