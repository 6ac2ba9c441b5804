"""Failures with their reasons: the rows of ``failures.parquet``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa

from mshisto_ray.store import schema
from mshisto_ray.store.errors import Kind
from mshisto_ray.store.shards import write_shard

Stage = Literal["tile", "embed", "import", "export", "predict"]


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
    """Write ``failures.parquet`` of a stage directory."""
    write_shard(out / "failures.parquet", [failure_table(failures)])
