"""Random folds that keep patients together and spread the classes evenly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mshisto_ray.config import Config, InputError, option

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
        "fold", "column with given folds, used where the input has it; null: never"
    )


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
) -> list[Split]:
    """Make all splits, repeat by repeat and fold by fold.

    Args:
        config: folds, repeats, share of validation, seed.
        patients: patient of each of B bags.
        targets: class index of each bag, int [B].
        classes: names of the classes, for messages.
        given: fold of each bag as text; replaces drawn folds.

    Raises:
        InputError: fewer than two classes, a class with fewer patients than folds,
            or given folds that split a patient.
    """
    counts, patient = _class_counts(patients, targets, len(classes))
    _check_classes(counts, classes)
    fixed = None if given is None else _given_folds(given, patients)
    num_folds = config.folds if fixed is None else int(fixed.max()) + 1
    if fixed is None:
        _check_folds(counts, classes, config.folds)
    splits = []
    for repeat in range(config.repeats):
        if fixed is None:
            generator = np.random.default_rng([config.seed, repeat])
            shares = np.full(num_folds, 1 / num_folds)
            folds = _spread(counts, shares, generator)[patient]
        else:
            folds = fixed
        for fold in range(num_folds):
            inner = np.random.default_rng([config.seed, repeat, fold, _INNER])
            splits.append(_split(config, counts, patient, folds, repeat, fold, inner))
    return splits


def _split(
    config: SplitConfig,
    counts: np.ndarray,
    patient: np.ndarray,
    folds: np.ndarray,
    repeat: int,
    fold: int,
    generator: np.random.Generator,
) -> Split:
    learned = np.flatnonzero(folds != fold)
    test = np.flatnonzero(folds == fold)
    if config.validation == 0:
        return Split(repeat, fold, learned, learned[:0], test)
    inside = np.unique(patient[learned])
    shares = np.array([1 - config.validation, config.validation])
    part = np.zeros(len(counts), dtype=np.int64)
    part[inside] = _spread(counts[inside], shares, generator)
    held_out = part[patient[learned]] == 1
    return Split(repeat, fold, learned[~held_out], learned[held_out], test)


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
    patients: Sequence[str], targets: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Bags per patient and class [G, C], and each bag's patient index [B]."""
    names, patient = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    counts = np.zeros((len(names), num_classes), dtype=np.int64)
    np.add.at(counts, (patient, targets), 1)
    return counts, patient


def _check_classes(counts: np.ndarray, classes: Sequence[str]) -> None:
    present = [c for c, n in zip(classes, counts.sum(0), strict=True) if n]
    if len(present) < 2:
        raise InputError(
            f"labels: only {present[0]!r} is left, and a classifier needs two classes"
            if present
            else "labels: no labelled bag is left"
        )


def _check_folds(counts: np.ndarray, classes: Sequence[str], folds: int) -> None:
    for name, num in zip(classes, (counts > 0).sum(0), strict=True):
        if num < folds:
            fewer = f"give split.folds={num}, or " if num > 1 else ""
            raise InputError(
                f"class {name!r} has {num} patients, fewer than split.folds={folds}: "
                f"{fewer}name the classes to use in target.classes"
            )


def _given_folds(given: Sequence[str | None], patients: Sequence[str]) -> np.ndarray:
    empty = sorted({p for p, fold in zip(patients, given, strict=True) if not fold})
    if empty:
        raise InputError(
            f"fold column: empty for {len(empty)} patients with a label "
            f"({', '.join(empty[:3])}); fill it in, or give split.column=null"
        )
    seen: dict[str, str | None] = {}
    for patient, fold in zip(patients, given, strict=True):
        if seen.setdefault(patient, fold) != fold:
            raise InputError(
                f"fold column: patient {patient!r} is in folds {seen[patient]!r} and "
                f"{fold!r}; a patient belongs to one fold"
            )
    names, folds = np.unique(np.asarray(given, dtype=str), return_inverse=True)
    if len(names) < 2:
        raise InputError(
            f"fold column: only {str(names[0])!r}; at least two are needed"
        )
    return folds
