"""Failures with their reasons: the rows of ``failures.parquet``, and in words."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pyarrow import csv

from mshisto_ray.store import schema
from mshisto_ray.store.errors import Kind
from mshisto_ray.store.shards import write_shard
from mshisto_ray.store.temporary import temporary_beside

CSV = "failures.csv"
# Reasons that are printed; beyond, the table is easier to read.
_MOST_REASONS = 8
# What differs between messages of one reason: paths, numbers.
_WORD = 4
_VARYING = re.compile(r"\S*/\S*|\d[\d.,]*")

Stage = Literal["tile", "embed", "import", "export", "train", "predict"]


@dataclass(frozen=True)
class Failure:
    """One failure; ``chunk``, ``mpp``, ``row`` or ``col`` is None if it affects all.

    ``input`` failures are kept until the input changes, ``transient`` and ``hung`` ones
    are tried again by the next run, a ``crash`` killed its process more than once, or
    is an error that the code did not expect, twice.
    """

    slide_id: str
    stage: Stage
    kind: Kind
    error: str
    message: str
    chunk: int | None = None
    mpp: float | None = None
    row: int | None = None
    col: int | None = None


def failure_table(failures: Iterable[Failure]) -> pa.Table:
    """Failures as a table, ordered by slide, chunk, scale and place."""

    def key(f: Failure) -> tuple:
        place = (f.chunk, f.mpp, f.row, f.col)
        return (f.slide_id, *(-1 if v is None else v for v in place))

    rows = [asdict(f) for f in sorted(failures, key=key)]
    return pa.Table.from_pylist(rows, schema=schema.FAILURES)


def write_failures(out: Path, failures: Iterable[Failure]) -> None:
    """Write ``failures.parquet`` of a stage directory, and ``failures.csv`` beside."""
    table = failure_table(failures)
    write_shard(out / "failures.parquet", [table])
    temporary = temporary_beside(out / CSV)
    try:
        csv.write_csv(table, temporary)
        os.replace(temporary, out / CSV)
    finally:
        temporary.unlink(missing_ok=True)


def reasons(failures: Iterable[Failure]) -> list[str]:
    """A line for each reason, the most frequent first, with counts and an example.

    Failures of one stage, kind and error have the same reason if their messages differ
    only in the slide's name, paths and numbers.
    """
    groups: dict[tuple[str, ...], list[Failure]] = defaultdict(list)
    for one in failures:
        groups[one.stage, one.kind, one.error, _what(one)].append(one)
    ordered = sorted(groups.values(), key=len, reverse=True)
    lines = [_reason(group) for group in ordered[:_MOST_REASONS]]
    left = sum(map(len, ordered[_MOST_REASONS:]))
    if left:
        lines.append(f"{left} more failures of other reasons: see {CSV}")
    return lines


def _what(failure: Failure) -> str:
    """The message without what varies; a name of a few letters may be a word in it."""
    text, name = failure.message, failure.slide_id
    if len(name) > _WORD:
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "#", text)
    return _VARYING.sub("#", text)


def _reason(group: list[Failure]) -> str:
    first = group[0]
    slides = len({one.slide_id for one in group})
    of = "1 slide" if slides == 1 else f"{slides} slides"
    example = "" if len(group) == 1 else "for example "
    return (
        f"{len(group)} x {first.error} ({first.stage}, {first.kind}; {of}): "
        f"{example}{first.slide_id}: {first.message}"
    )
