"""Folds that the user gives: numbers or names of folds, or train, validation, test."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.store.spelling import explain_clashes

TRAIN, VALIDATION, TEST = range(3)
PART_NAMES = ("train", "validation", "test")
_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "tr"), TRAIN),
    **dict.fromkeys(
        ("val", "valid", "validation", "dev", "tune", "tuning", "va", "vld"), VALIDATION
    ),
    **dict.fromkeys(("test", "testing", "holdout", "heldout", "tst", "te"), TEST),
}
# Names of two parts of a split, not of folds, where all folds are named by them; which
# is which is for the user to say.
_PARTS = frozenset(
    ("internal", "external", "in", "out", "seen", "unseen", "fit", "eval", "evaluation",
     "true", "false", "yes", "no", "discovery", "replication", "derivation", "learning",
     "development", "trainval", "calibration")
)  # fmt: skip
_MAX_NUMBER = 2**31 - 1  # the predictions' column


@dataclass(frozen=True)
class GivenFolds:
    """The given fold of each of B bags.

    ``names``: as given, numbers in their order; ``numbers``: of each name, the number
    in it (``3``, ``fold_3``) or, if the names are not all such, its place; ``index``:
    each bag's place in ``names``, int [B]. Of a given split, ``names`` are
    ``PART_NAMES``.
    """

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    index: np.ndarray
    is_split: bool

    @property
    def words(self) -> str:
        """The folds or parts, as words."""
        sizes = np.bincount(self.index, minlength=len(self.names))
        if self.is_split:
            parts = zip(PART_NAMES, sizes, strict=True)
            return ", ".join(f"{name} {size}" for name, size in parts if size)
        if self.names == tuple(map(str, self.numbers)):
            return f"{len(self.names)} folds, {', '.join(self.names)}"
        pairs = zip(self.numbers, self.names, strict=True)
        named = ", ".join(f"{number} = {name!r}" for number, name in pairs)
        return f"{len(self.names)} folds, numbered {named}"


def read_given_folds(
    given: Sequence[str | None], patients: Sequence[str]
) -> GivenFolds:
    """Read the folds of B bags of the given patients.

    The words train, validation (val, valid, dev, tune) and test (holdout), in any
    case, are the parts of one split. Other values are folds, each the test set once.

    Raises:
        InputError: an empty fold, a patient in two, only one fold, a negative number,
            words of a split beside other values, or a split without train or test.
    """
    _check_patients(given, patients)
    names = sorted({str(fold) for fold in given}, key=_number_order)
    parts = [_part(name) for name in names]
    if any(part is not None for part in parts):
        return _read_split([str(fold) for fold in given], names)
    if all(_plain(name) in _PARTS for name in names):
        raise InputError(
            f"fold column: {', '.join(map(repr, names))} are parts of a split, not "
            "folds: write train, validation and test, or number the folds"
        )
    clashes = explain_clashes("fold column", names)
    if clashes:
        raise InputError("\n".join(clashes))
    if len(names) < 2:
        raise InputError(f"fold column: only {names[0]!r}; at least two are needed")
    negative = [name for name in names if re.fullmatch(r"-\d+", name)]
    if negative:
        raise InputError(
            f"fold column: {negative[0]!r} is negative; number folds from 0 or 1, and "
            "leave slides that are not used out of the table"
        )
    numbers = _numbers(names) or range(len(names))
    place = {name: i for i, name in enumerate(names)}
    index = np.array([place[str(fold)] for fold in given])
    return GivenFolds(tuple(names), tuple(numbers), index, False)


def _numbers(names: Sequence[str]) -> list[int] | None:
    """Return the numbers of folds named ``3`` or all ``fold_3``; None for others."""
    found = [re.fullmatch(r"(\D*)(\d+)", name.casefold()) for name in names]
    parts = [match.groups() for match in found if match]
    numbers = [int(number) for _, number in parts]
    differ = len({prefix for prefix, _ in parts}) > 1 or len(parts) < len(names)
    if differ or len(set(numbers)) < len(names) or max(numbers) > _MAX_NUMBER:
        return None
    return numbers


def refuse_other_split(
    path: Path, fold: str, columns: Mapping[str, Sequence[str | None]]
) -> None:
    """Refuse a table without the fold column that holds a split under another name.

    Args:
        path: of the table.
        fold: the column that is looked for.
        columns: those that are named as if they held a split.

    Raises:
        InputError: a column of train, validation and test, and what to give.
    """
    for name, values in columns.items():
        known = {value for value in values if value is not None}
        if known and all(_part(value) is not None for value in known):
            raise InputError(
                f"{path}: column {name!r} holds a split "
                f"({', '.join(sorted(known))}), but folds are read from {fold!r}, "
                f"which is not there: give split.column={name} to use it, or "
                "split.column=null to draw folds"
            )


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _part(name: str) -> int | None:
    plain = _plain(name)
    return _WORDS.get(plain, _WORDS.get(plain.removesuffix("set")))


def _read_split(given: Sequence[str], names: Sequence[str]) -> GivenFolds:
    others = [name for name in names if _part(name) is None]
    if others:
        raise InputError(
            f"fold column: {', '.join(map(repr, others))} beside words of a split "
            f"({', '.join(n for n in names if n not in others)}): use train, "
            "validation and test, or numbers of folds"
        )
    found = [_part(fold) for fold in given]
    for part in (TRAIN, TEST):
        if part not in found:
            raise InputError(
                f"fold column: no labelled row is {PART_NAMES[part]!r}; a split has "
                f"train and test, and may have validation (have {', '.join(names)})"
            )
    return GivenFolds(PART_NAMES, tuple(range(3)), np.array(found), True)


def _check_patients(given: Sequence[str | None], patients: Sequence[str]) -> None:
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


def _number_order(name: str) -> tuple[str, int, str]:
    """Sort key: the words before a number in alphabetical order, then its value."""
    found = re.fullmatch(r"(\D*)(\d+)", name)
    return (found[1], int(found[2]), name) if found else (name, 0, name)
