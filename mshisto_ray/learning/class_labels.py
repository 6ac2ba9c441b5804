"""Labels of classes: their order, the rows that have one, shares and votes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.store.spelling import canonical_number


def chance_loss(targets: np.ndarray) -> float:
    """Mean loss, in nats, of predicting the share of each class among the targets."""
    share = np.unique(targets, return_counts=True)[1] / len(targets)
    return float(-(share * np.log(share)).sum())


def majority(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities [V, C] of V random bags to the probabilities [C] of their slide.

    (votes + mean probability) / (V + 1). The class with most votes has the highest
    one; of classes with equally many votes (V = 50 may end 25 to 25, and the paper
    names no rule), the one with the higher mean probability.

    Source: Tan et al. 2023, section 3.3, majority voting.
    """
    num, num_classes = probabilities.shape
    votes = np.bincount(probabilities.argmax(1), minlength=num_classes)
    return (votes + probabilities.mean(0)) / (num + 1)


def class_order(name: str) -> tuple[int, float, str]:
    """Sort key: numbers by value, then words in alphabetical order."""
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)


def in_classes(
    cells: Sequence[tuple[str | None, ...]], names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Places of the rows whose label is one of ``names``, and its index there."""
    # A head of earlier versions may have the class "1.0", which tables now call "1".
    index = {canonical_number(name): code for code, name in enumerate(names)}
    kept = [i for i, row in enumerate(cells) if row[0] in index]
    codes = [index[str(cells[i][0])] for i in kept]
    return np.array(kept, np.int64), np.array(codes, np.int64)


def check_two(sizes: np.ndarray, names: Sequence[str]) -> None:
    """Raise InputError unless two classes have bags; ``sizes``: bags of each, [C]."""
    present = [name for name, size in zip(names, sizes, strict=True) if size]
    if len(present) < 2:
        raise InputError(
            f"labels: only {present[0]!r} is left, and a classifier needs two classes"
            if present
            else "labels: no labelled bag is left"
        )
