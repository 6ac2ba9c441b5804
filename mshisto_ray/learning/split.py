"""Folds, drawn or given, that keep patients together and spread the classes evenly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mshisto_ray.config import Config, InputError, option
from mshisto_ray.learning.class_labels import check_two
from mshisto_ray.learning.given_folds import (
    TEST,
    TRAIN,
    VALIDATION,
    GivenFolds,
    read_given_folds,
)

_INNER = 1  # separates the random stream of inner splits from that of the folds


class SplitConfig(Config):
    """Repeated cross-validation with patients kept together."""

    folds: int = option(5, "outer folds; each is the test set once", ge=2)
    repeats: int = option(1, "number of times that folds are drawn", ge=1)
    validation: float = option(
        0.2,
        "share of each training fold set aside for early stopping and for choosing "
        "between configs; 0: none",
        ge=0,
        le=0.5,
    )
    seed: int = option(0, "seed for drawing the folds", ge=0)
    column: str | None = option(
        "fold",
        "column with given folds, or with train, validation and test, used where the "
        "input has it; null: never",
    )

    @property
    def together(self) -> str | None:
        """Column whose values stay together; None: patients do."""
        return None


@dataclass(frozen=True)
class Split:
    """Indices of the bags that one fold model is trained, validated and tested on.

    No patient is in two of the three.
    """

    repeat: int
    fold: int
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def make_splits(
    config: SplitConfig,
    patients: Sequence[str],
    targets: np.ndarray,
    classes: Sequence[str],
    given: Sequence[str | None] | None = None,
    each_fold: Sequence[str] | None = None,
    remedy: str = "name the classes to use in target.classes",
    what: str = "patients",
) -> list[Split]:
    """Make all splits, repeat by repeat and fold by fold.

    Args:
        config: folds, repeats, share of validation, seed.
        patients: patient of each of B bags.
        targets: class index of each bag, int [B], or weights [B, S] of the strata that
            folds spread evenly.
        classes: names of the classes or strata, for messages.
        given: fold of each bag as text; replaces drawn folds. Numbers become those of
            the splits; the words of ``read_given_folds`` are one split, whose
            validation bags are drawn from the training bags if none are given.
        each_fold: the classes or strata that every fold needs a patient of; None: all.
        remedy: what to do where one has fewer.
        what: the noun for patients in messages.

    Raises:
        InputError: fewer than two classes, a class with fewer patients than folds, or
            given folds that cannot be used (see ``read_given_folds``).
    """
    counts, patient = _class_counts(patients, targets, len(classes))
    if each_fold is None:
        check_two(counts.sum(0), classes)
    fixed = None if given is None else read_given_folds(given, patients)
    if fixed is None:
        needed = classes if each_fold is None else each_fold
        _check_folds(counts, classes, config.folds, needed, remedy, what)
    splits = []
    for repeat in range(config.repeats):
        if fixed is not None and fixed.is_split:
            splits.append(_given_split(config, counts, patient, fixed, repeat))
            continue
        numbers = range(config.folds) if fixed is None else fixed.numbers
        if fixed is None:
            generator = np.random.default_rng([config.seed, repeat])
            shares = np.full(config.folds, 1 / config.folds)
            folds = _spread(counts, shares, generator)[patient]
        else:
            folds = fixed.index
        for place, fold in enumerate(numbers):
            inner = np.random.default_rng([config.seed, repeat, place, _INNER])
            learned = np.flatnonzero(folds != place)
            test = np.flatnonzero(folds == place)
            parts = _set_aside(config, counts, patient, learned, inner)
            splits.append(Split(repeat, fold, *parts, test))
    return splits


def _given_split(
    config: SplitConfig,
    counts: np.ndarray,
    patient: np.ndarray,
    given: GivenFolds,
    repeat: int,
) -> Split:
    train, validation, test = (
        np.flatnonzero(given.index == part) for part in (TRAIN, VALIDATION, TEST)
    )
    if not len(validation):
        inner = np.random.default_rng([config.seed, repeat, 0, _INNER])
        train, validation = _set_aside(config, counts, patient, train, inner)
    return Split(repeat, 0, train, validation, test)


def _set_aside(
    config: SplitConfig,
    counts: np.ndarray,
    patient: np.ndarray,
    learned: np.ndarray,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the validation bags; returns the bags to train on, and those."""
    if config.validation == 0:
        return learned, learned[:0]
    inside = np.unique(patient[learned])
    shares = np.array([1 - config.validation, config.validation])
    part = np.zeros(len(counts), dtype=np.int64)
    part[inside] = _spread(counts[inside], shares, generator)
    held_out = part[patient[learned]] == 1
    return learned[~held_out], learned[held_out]


def set_aside(
    config: SplitConfig,
    owners: np.ndarray,
    strata: np.ndarray,
    learned: np.ndarray,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw validation bags as a fold does.

    Args:
        config: share of validation.
        owners: number of the patient, or what stays together, of each bag, int [B].
        strata: weights of each bag in S strata, int [B, S].
        learned: bags to draw from.
        generator: of the draw.

    Returns:
        The bags to train on, and the validation bags.
    """
    counts, patient = _class_counts(owners, strata, strata.shape[1])
    return _set_aside(config, counts, patient, learned, generator)


def _spread(
    counts: np.ndarray, shares: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Assign each patient to a part, so that every part gets its share of every class.

    Patients are taken in random order, those with most bags first. Each goes to the
    part that lacks its classes most, relative to the part's share; ties go to the part
    that lacks bags most, then to the largest part.

    Args:
        counts: bags per patient and class, int [G, C].
        shares: wanted share of each of P parts, summing to 1.
        generator: decides the order.

    Returns:
        Part of each patient, int [G].
    """
    total = counts.sum(0)
    weight = np.where(total > 0, 1 / np.maximum(total, 1), 0)
    wanted = np.outer(shares, total)
    filled = np.zeros_like(wanted)
    order = generator.permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(1), kind="stable")]
    part = np.zeros(len(counts), dtype=np.int64)
    safe = np.maximum(wanted, np.finfo(float).tiny)
    for index in order:
        lack = (1 - filled / safe) @ (counts[index] * weight)
        fullness = filled.sum(1) / shares
        ranks = np.lexsort((-shares, fullness.round(9), -lack.round(9)))
        part[index] = ranks[0]
        filled[ranks[0]] += counts[index]
    return part


def _class_counts(
    patients: Sequence[str] | np.ndarray, targets: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Bags per patient and class [G, C], and each bag's patient index [B].

    ``patients``: names, or numbers in the order of the names.
    """
    given = np.asarray(patients)
    if given.dtype.kind != "i":
        given = given.astype(str)
    names, patient = np.unique(given, return_inverse=True)
    counts = np.zeros((len(names), num_classes), dtype=np.int64)
    if targets.ndim == 2:
        np.add.at(counts, patient, targets)
    else:
        np.add.at(counts, (patient, targets), 1)
    return counts, patient


def _check_folds(
    counts: np.ndarray,
    classes: Sequence[str],
    folds: int,
    needed: Sequence[str],
    remedy: str,
    what: str,
) -> None:
    for name, num in zip(classes, (counts > 0).sum(0), strict=True):
        if num < folds and name in needed:
            fewer = f"give split.folds={num}, or " if num > 1 else ""
            raise InputError(
                f"class {name!r} has {num} {what}, fewer than split.folds={folds}: "
                f"{fewer}{remedy}"
            )
