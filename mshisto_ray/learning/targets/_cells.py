"""Cells of a table as numbers, and groups of rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mshisto_ray.config import InputError

_FEW = 10
Cells = tuple[str | None, ...]


def left_out(names: Sequence[str], total: int, what: str, reason: str) -> str:
    """A line on rows that are left out, the first five by name."""
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{len(names)} of {total} {what} left out, {reason}: {shown}"


def complete(
    cells: Sequence[Cells], rows: Sequence[str], what: str, columns: Sequence[str]
) -> tuple[np.ndarray, list[str]]:
    """Places of the rows without a missing cell, and a note on the others."""
    kept = [i for i, row in enumerate(cells) if None not in row]
    without = [name for name, row in zip(rows, cells, strict=True) if None in row]
    reason = f"no {' or '.join(map(repr, columns))}"
    notes = [left_out(without, len(rows), what, reason)] if without else []
    return np.array(kept, dtype=np.int64), notes


def few_notes(column: str, num: int, what: str) -> list[str]:
    """A line where a column has so few of what is learned that it says little."""
    if num >= _FEW:
        return []
    return [
        f"warning: {column}: only {num} {what}: hardly anything can be learned of so "
        "few, and their intervals are too short"
    ]


def numbers(column: str, cells: Sequence[str], rows: Sequence[str]) -> np.ndarray:
    """Cells as finite numbers, float64 [N].

    Raises:
        InputError: a cell that is none.
    """
    found, wrong = np.zeros(len(cells)), []
    for i, (cell, row) in enumerate(zip(cells, rows, strict=True)):
        try:
            found[i] = float(cell)
        except ValueError:
            found[i] = np.nan
        if not np.isfinite(found[i]):
            wrong.append(f"{row} ({cell!r})")
    if wrong:
        more = ", ..." if wrong[3:] else ""
        raise InputError(
            f"{column}: {len(wrong)} of {len(cells)} values are not numbers: "
            f"{', '.join(wrong[:3])}{more}; correct them, or leave the cells empty"
        )
    return found


def quantile_codes(values: np.ndarray, num: int) -> np.ndarray:
    """Which of ``num`` equally large groups by size each value is in, int [N]."""
    order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return order * num // max(len(values), 1)


def one_hot(codes: np.ndarray, num: int) -> np.ndarray:
    """Codes [B] as indicators, int64 [B, ``num``]."""
    found = np.zeros((len(codes), num), np.int64)
    found[np.arange(len(codes)), codes] = 1
    return found
