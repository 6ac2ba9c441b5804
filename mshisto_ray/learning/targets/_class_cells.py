"""Labels of a table as classes: which occur, and what to do with others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.learning.class_labels import class_order
from mshisto_ray.learning.targets._cells import Cells, complete, left_out
from mshisto_ray.learning.targets._target import Encoded
from mshisto_ray.store.table import is_doubtful_word, is_missing_word


def read_classes(
    cells: Sequence[Cells],
    rows: Sequence[str],
    what: str,
    column: str,
    classes: tuple[str, ...] | None = None,
    leave_out: bool = False,
) -> Encoded:
    """Class indices of the rows with a label that is one of the classes.

    Args:
        cells: of the column, row by row.
        rows: names of the rows.
        what: the noun for rows in messages.
        column: name of the column.
        classes: in order; None: all that occur, sorted.
        leave_out: leave out rows of other labels, rather than raise.

    Raises:
        InputError: a class that does not occur, or labels that are no class.
    """
    known, notes = complete(cells, rows, what, (column,))
    labels = {int(i): str(cells[i][0]) for i in known}
    present = sorted(set(labels.values()), key=class_order)
    if classes is None:
        notes += [
            f"warning: {name!r} is a class and may stand for a missing label: "
            "empty its cells, or give target.classes and target.others=leave_out"
            for name in filter(is_doubtful_word, sorted(present))
        ]
        classes = tuple(present)
    else:
        _check_present(column, classes, present)
    others = [i for i, label in labels.items() if label not in classes]
    if others:
        names = [rows[i] for i in others]
        if not leave_out:
            found = {labels[i] for i in others}
            raise InputError(_no_class(column, names, found, f"{len(rows)} {what}"))
        notes += [left_out(names, len(rows), what, "a label not in target.classes")]
    index = {name: code for code, name in enumerate(classes)}
    kept = [i for i, label in labels.items() if label in index]
    truth = np.array([index[labels[i]] for i in kept], np.int64)
    return Encoded(np.array(kept, np.int64), truth, classes, tuple(notes))


def _check_present(
    column: str, classes: tuple[str, ...], present: Sequence[str]
) -> None:
    absent = [name for name in classes if name not in present]
    if any(map(is_missing_word, absent)):
        raise InputError(
            f"target.classes: {', '.join(filter(is_missing_word, absent))} is read "
            "as a missing value: give the class another name in the table"
        )
    if absent:
        raise InputError(
            f"target.classes: {', '.join(map(repr, absent))} does not occur in "
            f"column {column!r}; have {', '.join(present)}"
        )


def _no_class(column: str, names: Sequence[str], labels: set[str], total: str) -> str:
    """The message on rows whose labels are no class."""
    found = sorted(labels, key=class_order)
    return (
        f"{column}: {len(names)} of {total} "
        f"({', '.join(names[:5])}{', ...' if names[5:] else ''}) have labels "
        f"that are not in target.classes: {', '.join(found[:5])}; correct "
        "them, add the classes, or give target.others=leave_out"
    )
