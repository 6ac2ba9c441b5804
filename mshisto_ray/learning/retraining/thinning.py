"""Splits with fewer patients to learn from, for learning curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.learning.labelled import LabelledRows
from mshisto_ray.learning.split import Split

_STREAM = 3  # separates its random numbers from those of folds, inner splits, refits
_TRIES = 100


def thin_splits(
    rows: LabelledRows, splits: Sequence[Split], seed: int, size: float
) -> list[Split]:
    """The same splits with fewer patients to learn from, and all test rows.

    Training and validation patients of a fold are thinned alike, each in an order of
    its own, so that smaller sizes are parts of larger ones. Where a part lacks what the
    target needs, and the whole part does not, the order is drawn again; at last a
    validation part may lack it.

    Args:
        rows: bags or tiles.
        splits: of these rows.
        seed: of the orders.
        size: a share of the patients below 1, or a number of them.

    Raises:
        InputError: a fold has no more patients, or the parts lack what they need.
    """
    strata = rows.kind.strata(rows.targets, rows.classes, 2).of
    return [_thin(rows, strata, split, seed, size) for split in splits]


def _thin(
    rows: LabelledRows, strata: np.ndarray, split: Split, seed: int, size: float
) -> Split:
    num = len(_learned(rows.patients, split))
    if size >= num:
        raise InputError(
            f"learning_curve: fold {split.fold} learns from {num} patients, so a size "
            f"has to be below {num}; got {size}"
        )
    share, problem = size if size < 1 else size / num, None
    for needs in (_lack, _train_lack):
        for attempt in range(_TRIES):
            found = _draw(rows, strata, split, (seed, attempt), share)
            problem = needs(rows, split, found)
            if problem is None:
                return found
    raise InputError(
        f"learning_curve: size {size} leaves {problem} in fold {split.fold} of repeat "
        f"{split.repeat}: give larger sizes"
    )


def _draw(
    rows: LabelledRows,
    strata: np.ndarray,
    split: Split,
    seed: tuple[int, int],
    share: float,
) -> Split:
    rng = np.random.default_rng([*seed, split.repeat, split.fold, _STREAM])
    train, validation = (
        _first_patients(rows.patients, strata, part, share, rng)
        for part in (split.train, split.validation)
    )
    return Split(split.repeat, split.fold, train, validation, split.test)


def _first_patients(
    patients: np.ndarray,
    strata: np.ndarray,
    part: np.ndarray,
    share: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """The rows of a part whose patients come first in a random order.

    The order spreads each stratum evenly, so that its beginning has all of them.
    """
    names, of = np.unique(patients[part], return_inverse=True)
    weights = np.zeros((len(names), strata.shape[1]))
    np.add.at(weights, of, strata[part])
    stratum = weights.argmax(1) if len(names) else np.zeros(0, int)
    place = np.empty(len(names))
    for own in (np.flatnonzero(stratum == code) for code in np.unique(stratum)):
        place[own] = (rng.permutation(len(own)) + rng.random()) / len(own)
    kept = names[np.argsort(place)[: max(1, round(share * len(names)))]]
    return part[np.isin(patients[part], kept)]


def _train_lack(rows: LabelledRows, whole: Split, thin: Split) -> str | None:
    return rows.kind.lack(rows.targets[thin.train], rows.classes, True)


def _lack(rows: LabelledRows, whole: Split, thin: Split) -> str | None:
    trains, validates = whole.train, whole.validation
    parts = ((trains, thin.train, True), (validates, thin.validation, False))
    for before, after, learns in parts:
        lacks = [
            rows.kind.lack(rows.targets[part], rows.classes, learns)
            for part in (before, after)
        ]
        if lacks[1] and not lacks[0]:
            return lacks[1]
    return None


def _learned(patients: np.ndarray, split: Split) -> np.ndarray:
    return np.unique(patients[np.concatenate([split.train, split.validation])])


def check_sizes(
    rows: LabelledRows, splits: Sequence[Split], seed: int, sizes: Sequence[float]
) -> None:
    """Raise InputError where a fold cannot be thinned to different sizes."""
    found: dict[float, float] = {}
    for size in sizes:
        number = mean_learned(rows, thin_splits(rows, splits, seed, size))
        if number in found:
            raise InputError(
                f"learning_curve: sizes {found[number]} and {size} both leave "
                f"{number:g} patients to a fold: give sizes further apart"
            )
        found[number] = size


def mean_learned(rows: LabelledRows, splits: Sequence[Split]) -> float:
    """Patients that a fold learns from, validation included; the mean over splits."""
    return float(np.mean([len(_learned(rows.patients, split)) for split in splits]))
