"""Splits with fewer patients to learn from, for learning curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.learning.split import Split
from mshisto_ray.mil.input.labels import LabelledBags

_STREAM = 3  # separates its random numbers from those of folds, inner splits, refits
_TRIES = 100


def thin_splits(
    bags: LabelledBags, splits: Sequence[Split], seed: int, size: float
) -> list[Split]:
    """The same splits with fewer patients to learn from, and all test bags.

    Training and validation patients of a fold are thinned alike, each in an order of
    its own, so that smaller sizes are parts of larger ones. Where a part lacks what the
    target needs, and the whole part does not, the order is drawn again; at last a
    validation part may lack it.

    Args:
        bags: with targets.
        splits: of ``plan_splits``.
        seed: of the orders.
        size: a share of the patients below 1, or a number of them.

    Raises:
        InputError: a fold has no more patients, or the parts lack what they need.
    """
    return [_thin(bags, split, seed, size) for split in splits]


def _thin(bags: LabelledBags, split: Split, seed: int, size: float) -> Split:
    patients = np.array(bags.patient_ids, dtype=str)
    num = len(_learned(patients, split))
    if size >= num:
        raise InputError(
            f"learning_curve: fold {split.fold} learns from {num} patients, so a size "
            f"has to be below {num}; got {size}"
        )
    share, problem = size if size < 1 else size / num, None
    for needs in (_lack, _train_lack):
        for attempt in range(_TRIES):
            found = _draw(bags, patients, split, (seed, attempt), share)
            problem = needs(bags, split, found)
            if problem is None:
                return found
    raise InputError(
        f"learning_curve: size {size} leaves {problem} in fold {split.fold} of repeat "
        f"{split.repeat}: give larger sizes"
    )


def _draw(
    bags: LabelledBags,
    patients: np.ndarray,
    split: Split,
    seed: tuple[int, int],
    share: float,
) -> Split:
    rng = np.random.default_rng([*seed, split.repeat, split.fold, _STREAM])
    assert bags.targets is not None
    strata = bags.kind.strata(bags.targets, bags.classes, 2).of
    train, validation = (
        _first_patients(patients, strata, part, share, rng)
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
    """The bags of a part whose patients come first in a random order.

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


def _train_lack(bags: LabelledBags, whole: Split, thin: Split) -> str | None:
    assert bags.targets is not None
    return bags.kind.lack(bags.targets[thin.train], bags.classes, True)


def _lack(bags: LabelledBags, whole: Split, thin: Split) -> str | None:
    assert bags.targets is not None
    trains, validates = whole.train, whole.validation
    parts = ((trains, thin.train, True), (validates, thin.validation, False))
    for before, after, learns in parts:
        lacks = [
            bags.kind.lack(bags.targets[part], bags.classes, learns)
            for part in (before, after)
        ]
        if lacks[1] and not lacks[0]:
            return lacks[1]
    return None


def _learned(patients: np.ndarray, split: Split) -> np.ndarray:
    return np.unique(patients[np.concatenate([split.train, split.validation])])


def check_sizes(
    bags: LabelledBags, splits: Sequence[Split], seed: int, sizes: Sequence[float]
) -> None:
    """Raise InputError where a fold cannot be thinned to different sizes."""
    found: dict[float, float] = {}
    for size in sizes:
        number = mean_learned(bags, thin_splits(bags, splits, seed, size))
        if number in found:
            raise InputError(
                f"learning_curve: sizes {found[number]} and {size} both leave "
                f"{number:g} patients to a fold: give sizes further apart"
            )
        found[number] = size


def mean_learned(bags: LabelledBags, splits: Sequence[Split]) -> float:
    """Patients that a fold learns from, validation included; the mean over splits."""
    patients = np.array(bags.patient_ids, dtype=str)
    return float(np.mean([len(_learned(patients, split)) for split in splits]))
