"""Columns of a user's cohort for the bags of a table, joined by their names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from mshisto_ray.config import InputError
from mshisto_ray.mil.input.table import BagTable
from mshisto_ray.store.columns import (
    ColumnsConfig,
    find_column,
    looks_like_fold,
    reserved_columns,
)
from mshisto_ray.store.spelling import canonical_number, explain_clashes
from mshisto_ray.store.table import UserTable, read_table

_KEYS = ("bag", "slide_id", "patient_id")
_SHOWN = 3


def join_cohort(
    table: BagTable, path: Path, wanted: Collection[str], given: ColumnsConfig
) -> BagTable:
    """The bags with columns of a cohort, which come before their own.

    A bag's row is the one with its name as ``bag`` or ``slide_id``, or all rows of the
    patient of that name, whichever finds the most bags. A bag without a row has no
    cell in any column.

    Args:
        table: of ``read_bag_table``.
        path: of the cohort, CSV or Parquet.
        wanted: columns to read where they exist.
        given: names of columns that are not the reserved ones.

    Raises:
        InputError: no row for any bag, a patient with two values in a column, two
            spellings of a value, or a table that cannot be read.
    """
    cohort = read_table(path, "cohort")
    names = list(cohort.columns)
    reserved = reserved_columns(path, names, given, ("slide_id", "patient_id", "fold"))
    bags = list(table.features.slide_ids)
    key = _key_of(cohort, reserved, bags)
    rows: dict[str, list[int]] = {}
    for place, name in enumerate(cohort.columns[key]):
        if name is not None:
            rows.setdefault(name, []).append(place)
    found, words = dict(table.columns), []
    for column in sorted(wanted):
        own = reserved.get(column) or find_column(path, names, column)
        if own is not None:
            cells = _cells_of(cohort, own, key, rows, bags)
            if column == "patient_id":  # a bag without a row is its own patient
                both = zip(bags, cells, strict=True)
                cells = [cell if name in rows else name for name, cell in both]
            else:
                cells = [cell and canonical_number(cell) for cell in cells]
            clashes = explain_clashes(f"column {own!r}", [c for c in cells if c])
            if clashes:
                raise InputError("\n".join(f"{path}: {line}" for line in clashes))
            found[column] = cells
            words.append(own)
    notes = [*table.notes, *cohort.notes(words), *_lost(path, key, rows, bags)]
    have = list(dict.fromkeys([*names, *table.column_names]))
    own = {name: list(cohort.columns[name]) for name in looks_like_fold(names)}
    splits = {**table.splits, **own}
    return BagTable(table.features, found, have, table.digest, tuple(notes), splits)


def _key_of(cohort: UserTable, reserved: dict[str, str], bags: Sequence[str]) -> str:
    """The column that names the most bags."""
    columns = [reserved.get(key, key) for key in _KEYS]
    known = [name for name in dict.fromkeys(columns) if name in cohort.columns]
    wanted = set(bags)
    counts = {name: len(wanted & set(cohort.columns[name])) for name in known}
    best = max(counts, key=lambda name: counts[name], default=None)
    if best is None or not counts[best]:
        looked = " and ".join(known) or "no bag, slide_id or patient_id"
        like = ", ".join(str(cohort.columns[n][0]) for n in known if cohort.num_rows)
        raise InputError(
            f"{cohort.path}: names none of the {len(bags)} bags ({bags[0]}, ...): has "
            f"{looked}{f' ({like}, ...)' if like else ''}; name bags as its patients "
            "or slides"
        )
    return best


def _cells_of(
    cohort: UserTable,
    column: str,
    key: str,
    rows: dict[str, list[int]],
    bags: Sequence[str],
) -> list[str | None]:
    values, found = cohort.columns[column], []
    for name in bags:
        own = {values[row] for row in rows.get(name, ())}
        if len(own) > 1:
            one, other, *_ = sorted(map(repr, own))
            raise InputError(
                f"{cohort.path}: {key} {name!r} has two values in column {column!r} "
                f"({one} and {other}); a bag has one"
            )
        found.append(own.pop() if own else None)
    return found


def _lost(
    path: Path, key: str, rows: dict[str, list[int]], bags: Sequence[str]
) -> list[str]:
    """Lines on bags without a row, and on rows without a bag."""
    without = [name for name in bags if name not in rows]
    others = sorted(rows.keys() - set(bags))
    notes = []
    if without:
        notes.append(
            f"{len(without)} of {len(bags)} bags have no row in {path.name} "
            f"({_shown(without)})"
        )
    if others:
        notes.append(
            f"{len(others)} of {len(rows)} {key}s of {path.name} have no bag "
            f"({_shown(others)})"
        )
    return notes


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if names[_SHOWN:] else "")
