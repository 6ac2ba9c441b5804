"""Labels of slides or bags: which rows have one, and whether folds can be drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.learning.split import Split, SplitConfig, make_splits
from mshisto_ray.mil.input.config import TargetConfig
from mshisto_ray.mil.input.source import BagRow, cohort_rows
from mshisto_ray.store.cohort import Cohort
from mshisto_ray.store.table import is_doubtful_word, is_missing_word


def split_cohort(
    cohort: Cohort, target: TargetConfig, split: SplitConfig, unit: str
) -> list[Split]:
    """The splits that training on a cohort will draw, before any slide is read.

    Slides that turn out to have no tiles may leave a part too small later.

    Raises:
        InputError: labels or folds cannot be used.
    """
    rows, has_fold = cohort_rows(cohort, {}, target.column, split.column)
    rows, classes = labelled(rows, target, "slides", [])
    groups = by_patient(rows) if unit == "patient" else [[row] for row in rows]
    first = [group[0] for group in groups]
    index = {name: i for i, name in enumerate(classes)}
    targets = [index[row.label] for row in first if row.label is not None]
    return make_splits(
        split,
        [row.patient_id for row in first],
        np.array(targets, dtype=np.int64),
        classes,
        [row.fold for row in first] if has_fold else None,
    )


def labelled(
    rows: list[BagRow], target: TargetConfig, what: str, notes: list[str]
) -> tuple[list[BagRow], tuple[str, ...]]:
    """Rows whose label is one of the classes, and the classes in order.

    Args:
        rows: slides or bags.
        target: column and classes.
        what: the noun for rows in messages.
        notes: gets a line for each reason to leave rows out.

    Raises:
        InputError: a class that does not occur, or a label that is none of them.
    """
    known = [row for row in rows if row.label is not None]
    if len(known) < len(rows):
        without = [row.name for row in rows if row.label is None]
        notes.append(left_out(without, len(rows), what, f"no {target.column!r}"))
    present = {row.label for row in known if row.label is not None}
    if target.classes is None:
        notes += [
            f"warning: {name!r} is a class and may stand for a missing label: empty "
            "its cells, or give target.classes and target.others=leave_out"
            for name in filter(is_doubtful_word, sorted(present))
        ]
        return known, tuple(sorted(present, key=_class_order))
    absent = [name for name in target.classes if name not in present]
    if any(map(is_missing_word, absent)):
        raise InputError(
            f"target.classes: {', '.join(filter(is_missing_word, absent))} is read as "
            "a missing value: give the class another name in the table"
        )
    if absent:
        raise InputError(
            f"target.classes: {', '.join(map(repr, absent))} does not occur in column "
            f"{target.column!r}; have {', '.join(sorted(present, key=_class_order))}"
        )
    kept = [row for row in known if row.label in target.classes]
    if len(kept) < len(known):
        others = [row for row in known if row.label not in target.classes]
        names = [row.name for row in others]
        if target.others == "refuse":
            labels = sorted({str(row.label) for row in others}, key=_class_order)
            raise InputError(
                f"{target.column}: {len(others)} of {len(rows)} {what} "
                f"({', '.join(names[:5])}{', ...' if names[5:] else ''}) have labels "
                f"that are not in target.classes: {', '.join(labels[:5])}; correct "
                "them, add the classes, or give target.others=leave_out"
            )
        notes.append(left_out(names, len(rows), what, "a label not in target.classes"))
    return kept, target.classes


def _class_order(name: str) -> tuple[int, float, str]:
    """Sort key: numbers by value, then words in alphabetical order."""
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)


def by_patient(rows: Sequence[BagRow]) -> list[list[BagRow]]:
    """Rows of each patient.

    Raises:
        InputError: a patient with two labels or two folds.
    """
    groups: dict[str, list[BagRow]] = {}
    for row in rows:
        groups.setdefault(row.patient_id, []).append(row)
    for key in ("label", "fold"):
        mixed = [
            f"{name!r} ({', '.join(sorted(str(getattr(r, key)) for r in group))})"
            for name, group in groups.items()
            if len({getattr(row, key) for row in group}) > 1
        ]
        if mixed:
            raise InputError(
                f"unit: patient, but {len(mixed)} patients have slides with different "
                f"{key}s: {'; '.join(mixed[:3])}; give each patient one {key}, or use "
                "unit: slide"
            )
    return list(groups.values())


def left_out(names: Sequence[str], total: int, what: str, reason: str) -> str:
    """A line on rows that are left out, the first five by name."""
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{len(names)} of {total} {what} left out, {reason}: {shown}"
